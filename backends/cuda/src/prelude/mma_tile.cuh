#ifndef EGRAFT_SHIM
// Four matrices of 8 by 8 elements of 16 bits; each thread names the place of a row of one of them.
template <bool TRANSPOSED> __device__ void load_matrices(u32 (&to)[4], int at) {
  u64 from;
  asm("cvta.to.shared.u64 %0, %1;" : "=l"(from) : "l"(shared_bytes + at));
  if (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"((u32)from));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"((u32)from));
  }
}
#endif

// What a tensor core takes of an operand at once: two by two matrices of 8 rows (of the right one, columns) by 16 bytes of steps,
// those of the left one above each other first. Only elements of 16 bits are turned on the way; others that lie across the
// sum come one by one.
template <bool IS_LEFT, bool ALONG, int ROW, int BYTES> __device__ void load_operand(u32 (&to)[4], int at) {
  if (ALONG || BYTES == 2) return load_matrices<!ALONG>(to, at);
  #pragma unroll
  for (int m = 0; m < 4; m += 1) to[m] = shared<u32>(at)[(IS_LEFT ? m / 2 : m % 2) * 4 * ROW + (IS_LEFT ? m % 2 : m / 2) * 8];
}

// A tile of a product with sums of 32 bits, by tensor cores: DOWN by ACROSS warps have a part each, and where there are more
// warps, they share out the steps of the sum. Rows are longer than a tile's, to lie in different banks.
template <int ROWS, int COLS, int STEPS, int DOWN, int ACROSS, bool A_ALONG, bool B_ALONG, int BYTES, class Mma> struct MmaTile {
  static constexpr int PARTS = 8 / (DOWN * ACROSS), HIGH = ROWS / DOWN / 16, WIDE = COLS / ACROSS / 16, HALF = 16 / BYTES;
  static constexpr int A_ROW = A_ALONG ? STEPS + HALF : ROWS + 8, B_ROW = B_ALONG ? STEPS + HALF : COLS + 8;
  // Bytes of the left operand, in front of the right one, and of both.
  static constexpr int B_START = (A_ALONG ? ROWS : STEPS) * A_ROW * BYTES, SIZE = B_START + (B_ALONG ? COLS : STEPS) * B_ROW * BYTES;
  float sums[HIGH][2 * WIDE][4] = {};
  static __device__ int part() { return threadIdx.x / 32 / (DOWN * ACROSS); }
  static __device__ int row0() { return threadIdx.x / 32 / ACROSS % DOWN * (16 * HIGH); }
  static __device__ int col0() { return threadIdx.x / 32 % ACROSS * (16 * WIDE); }

  // Adds the products of the steps that lie there.
  __device__ void add(int at) {
    // The rows of matrices that this thread names: of the left operand's first two that are above each other, of the right
    // one's that are beside each other.
    const int lane = threadIdx.x % 32, eighth = lane % 8, odd = lane / 8 % 2, high = lane / 16, one = lane % 4, its = lane / 4;
    const int a_at = A_ALONG    ? (row0() + eighth + odd * 8) * A_ROW + high * HALF
                   : BYTES == 2 ? (eighth + high * 8) * A_ROW + row0() + odd * 8
                                : one * A_ROW + row0() + its;
    const int b_at = B_ALONG    ? (col0() + eighth + high * 8) * B_ROW + odd * HALF
                   : BYTES == 2 ? (eighth + odd * 8) * B_ROW + col0() + high * 8
                                : one * B_ROW + col0() + its;
    const int a_from = at + a_at * BYTES, b_from = at + B_START + b_at * BYTES;
    #pragma unroll
    for (int k = 0; k < STEPS / PARTS; k += 2 * HALF) {
      const int own = k + part() * (STEPS / PARTS);
      u32 x[HIGH][4], y[WIDE][4];
      #pragma unroll
      for (int m = 0; m < HIGH; m += 1)
        load_operand<true, A_ALONG, A_ROW, BYTES>(x[m], a_from + (A_ALONG ? 16 * m * A_ROW + own : own * A_ROW + 16 * m) * BYTES);
      #pragma unroll
      for (int n = 0; n < WIDE; n += 1)
        load_operand<false, B_ALONG, B_ROW, BYTES>(y[n], b_from + (B_ALONG ? 16 * n * B_ROW + own : own * B_ROW + 16 * n) * BYTES);
      #pragma unroll
      for (int m = 0; m < HIGH; m += 1)
        #pragma unroll
        for (int n = 0; n < 2 * WIDE; n += 1) Mma()(sums[m][n], x[m], y[n / 2][n % 2 * 2], y[n / 2][n % 2 * 2 + 1]);
    }
  }

  // Puts the parts together, in memory that nobody needs any more, and hands out the sums.
  template <class Result> __device__ void finish(int at, int rows, int cols, const Result& result) {
    if (PARTS > 1) {
      const auto others = shared<float>(at);
      constexpr int EACH = 8 * HIGH * WIDE, NEXT = 32 * DOWN * ACROSS;
      const int own = threadIdx.x % NEXT;
      __syncthreads();
      #pragma unroll
      for (int e = 0; e < EACH; e += 1)
        if (part() > 0) others[((part() - 1) * EACH + e) * NEXT + own] = sums[e / 4 / (2 * WIDE)][e / 4 % (2 * WIDE)][e % 4];
      __syncthreads();
      if (part() > 0) return;
      #pragma unroll
      for (int e = 0; e < EACH * (PARTS - 1); e += 1)
        sums[e % EACH / 4 / (2 * WIDE)][e % EACH / 4 % (2 * WIDE)][e % 4] += others[e * NEXT + own];
    }
    const int lane = threadIdx.x % 32;
    #pragma unroll
    for (int m = 0; m < HIGH; m += 1) {
      #pragma unroll
      for (int n = 0; n < 2 * WIDE; n += 1) {
        #pragma unroll
        for (int e = 0; e < 4; e += 1) {
          const int i = row0() + 16 * m + lane / 4 + e / 2 * 8, j = col0() + 8 * n + lane % 4 * 2 + e % 2;
          if (i < rows && j < cols) result(i, j, sums[m][n][e]);
        }
      }
    }
  }
};
