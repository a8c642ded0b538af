#ifndef EGRAFT_SHIM
// Copies 16 bytes to shared memory, or zeros; they are there after a wait for the group, and for other threads after a barrier.
__device__ void copy_later(int at, const void* from, bool is_there) {
  u64 to;
  asm("cvta.to.shared.u64 %0, %1;" : "=l"(to) : "l"(shared_bytes + at));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"((u32)to), "l"(from), "r"(is_there ? 16 : 0) : "memory");
}
__device__ void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all groups but the last ones.
template <int LAST> __device__ void wait_for_groups() { asm volatile("cp.async.wait_group %0;" :: "n"(LAST) : "memory"); }
#endif

// Where a pack lies.
template <class P> struct Address {
  using To = P;
  const void* from;
};

// Asks for the copy of a tile of an operand, of which packs of 16 bytes are named.
template <int LENGTH, int STEPS, bool ALONG, int ROW, class Operand>
__device__ void copy_tile(int at, const Operand& operand, int length, i64 first, i64 steps) {
  using P = typename decltype(operand(0, 0))::To;
  using As = Part<LENGTH, STEPS, ALONG, P>;
  #pragma unroll
  for (int n = 0; n < As::COUNT; n += 1) {
    const int pack = n * 256 + threadIdx.x, i = As::place(pack), k = As::step(pack);
    const bool is_there = i < length && first + k < steps;
    const int to = at + (ALONG ? i * ROW + k : k * ROW + i) * (int)sizeof(typename P::Of);
    // What is not there has the address of what is.
    if (pack < As::ALL) copy_later(to, is_there ? operand(i, first + k).from : operand(0, 0).from, is_there);
  }
}

// A tile by tensor cores whose operands are copied to shared memory as they are: while one step is computed, the next ones are on
// their way.
template <int ROWS, int COLS, int STEPS, int DOWN, int ACROSS, bool A_ALONG, bool B_ALONG, class Mma, int STAGES, class Left,
          class Right, class Result>
__device__ void tile_copied(int at, i64 all_rows, i64 all_cols, i64 steps, const Left& left, const Right& right, const Result& result) {
  using A = typename decltype(left(0, 0))::To;
  using Tile = MmaTile<ROWS, COLS, STEPS, DOWN, ACROSS, A_ALONG, B_ALONG, sizeof(typename A::Of), Mma>;
  Tile tile;
  const int rows = all_rows < ROWS ? (int)all_rows : ROWS, cols = all_cols < COLS ? (int)all_cols : COLS;
  // Without steps nothing can be named.
  const auto copy = [&](i64 first, int start) {
    if (first < steps) {
      copy_tile<ROWS, STEPS, A_ALONG, Tile::A_ROW>(start, left, rows, first, steps);
      copy_tile<COLS, STEPS, B_ALONG, Tile::B_ROW>(start + Tile::B_START, right, cols, first, steps);
    }
    end_group();
  };
  __syncthreads();
  #pragma unroll
  for (int stage = 0; stage < STAGES - 1; stage += 1) copy(stage * STEPS, at + stage * Tile::SIZE);
  int start = 0, next = (STAGES - 1) * Tile::SIZE;
  for (i64 first = 0; first < steps; first += STEPS) {
    wait_for_groups<STAGES - 2>();
    // The copies of others are there, and nobody needs the oldest stage any more.
    __syncthreads();
    copy(first + (STAGES - 1) * STEPS, at + next);
    tile.add(at + start);
    start = start == (STAGES - 1) * Tile::SIZE ? 0 : start + Tile::SIZE;
    next = next == (STAGES - 1) * Tile::SIZE ? 0 : next + Tile::SIZE;
  }
  wait_for_groups<0>();
  tile.finish(at, rows, cols, result);
}
