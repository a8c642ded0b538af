// Two tiles of each operand in shared memory: while one is computed with, the elements of the next are on their way to registers.
template <int ROWS, int COLS, int STEPS, int DOWN, int ACROSS, bool A_ALONG, bool B_ALONG, class Mma, class Left, class Right,
          class Result>
__device__ void tile_mma(int at, i64 all_rows, i64 all_cols, i64 steps, const Left& left, const Right& right, const Result& result) {
  using A = decltype(left(0, 0));
  using Tile = MmaTile<ROWS, COLS, STEPS, DOWN, ACROSS, A_ALONG, B_ALONG, sizeof(typename A::Of), Mma>;
  Tile tile;
  Part<ROWS, STEPS, A_ALONG, A> a;
  Part<COLS, STEPS, B_ALONG, decltype(right(0, 0))> b;
  const int rows = all_rows < ROWS ? (int)all_rows : ROWS, cols = all_cols < COLS ? (int)all_cols : COLS;
  a.fetch(left, rows, 0, steps);
  b.fetch(right, cols, 0, steps);
  __syncthreads();
  int start = at;
  for (i64 first = 0; first < steps; first += STEPS, start = 2 * at + Tile::SIZE - start) {
    Mma::prepare(a.kept);
    Mma::prepare(b.kept);
    a.template put<Tile::A_ROW, false>(start);
    b.template put<Tile::B_ROW, false>(start + Tile::B_START);
    __syncthreads();
    a.fetch(left, rows, first + STEPS, steps);
    b.fetch(right, cols, first + STEPS, steps);
    tile.add(start);
  }
  tile.finish(at, rows, cols, result);
}
