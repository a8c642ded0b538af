__device__ float multiply_add(float a, float b, float sum) { return fmaf(a, b, sum); }
__device__ i32 multiply_add(i32 a, i32 b, i32 sum) { return (i32)((u32)a * (u32)b + (u32)sum); }

// A tile of a product, sums in ascending order: 16 by 16 threads, of which each keeps some rows and columns, up to 4 side by
// side. While a step is computed, the elements of the next are on their way to registers.
template <int ROWS, int COLS, int STEPS, bool A_ALONG, bool B_ALONG, class Left, class Right, class Result>
__device__ void tile_fma(int at, i64 all_rows, i64 all_cols, i64 steps, const Left& left, const Right& right, const Result& result) {
  constexpr int DOWN = ROWS / 16, ACROSS = COLS / 16, V = DOWN < 4 ? DOWN : 4, W = ACROSS < 4 ? ACROSS : 4;
  constexpr int A_ROW = ROWS + 4, B_ROW = COLS + 4, B_START = STEPS * A_ROW, SIZE = B_START + STEPS * B_ROW;
  Part<ROWS, STEPS, A_ALONG, decltype(left(0, 0))> a;
  Part<COLS, STEPS, B_ALONG, decltype(right(0, 0))> b;
  using T = typename decltype(left(0, 0))::Of;
  const int row0 = threadIdx.x / 16 * V, col0 = threadIdx.x % 16 * W;
  const int rows = all_rows < ROWS ? (int)all_rows : ROWS, cols = all_cols < COLS ? (int)all_cols : COLS;
  T sums[DOWN][ACROSS] = {};
  a.fetch(left, rows, 0, steps);
  b.fetch(right, cols, 0, steps);
  __syncthreads();
  int start = 0;
  for (i64 first = 0; first < steps; first += STEPS, start = SIZE - start) {
    a.template put<A_ROW, true>(at + start * 4);
    b.template put<B_ROW, true>(at + (start + B_START) * 4);
    __syncthreads();
    a.fetch(left, rows, first + STEPS, steps);
    b.fetch(right, cols, first + STEPS, steps);
    const auto x_tile = shared<Pack<T, V>>(at + start * 4);
    const auto y_tile = shared<Pack<T, W>>(at + (start + B_START) * 4);
    #pragma unroll
    for (int k = 0; k < STEPS; k += 1) {
      Pack<T, V> x[DOWN / V];
      Pack<T, W> y[ACROSS / W];
      for (int m = 0; m < DOWN / V; m += 1) x[m] = x_tile[(k * A_ROW + row0) / V + 16 * m];
      for (int n = 0; n < ACROSS / W; n += 1) y[n] = y_tile[(k * B_ROW + col0) / W + 16 * n];
      for (int m = 0; m < DOWN; m += 1)
        for (int n = 0; n < ACROSS; n += 1)
          sums[m][n] = multiply_add(x[m / V].of[m % V], y[n / W].of[n % W], sums[m][n]);
    }
  }
  #pragma unroll
  for (int m = 0; m < DOWN; m += 1) {
    #pragma unroll
    for (int n = 0; n < ACROSS; n += 1) {
      const int i = row0 + m / V * 16 * V + m % V, j = col0 + n / W * 16 * W + n % W;
      if (i < rows && j < cols) result(i, j, sums[m][n]);
    }
  }
}
