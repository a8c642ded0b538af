// Rows that meet one matrix: its number, negative if there is none, and their places in the order.
struct Stretch { i64 number, first, end; };

// The rows of a tile, if each matrix has as few tiles as its rows fill. So many threads have a matrix each, and add up how
// many tiles those before have.
template <int ROWS, int THREADS> __device__ Stretch rows_of_tile(const i64* starts, i64 numbers, i64 tile, int at) {
  const auto ends = shared<i64>(at);
  const auto found = shared<i64>(at + THREADS * 8);
  const int thread = threadIdx.x;
  if (thread == 0) found[0] = -1;
  i64 before = 0;
  for (i64 first = 0; first < numbers; first += THREADS) {
    const i64 number = first + thread;
    const bool is_one = thread < THREADS && number < numbers;
    const i64 start = is_one ? starts[number] : 0, end = is_one ? starts[number + 1] : 0;
    const i64 tiles = (end - start + ROWS - 1) / ROWS;
    i64 sum = tiles;
    for (int by = 1; by < THREADS; by *= 2) {
      if (thread < THREADS) ends[thread] = sum;
      __syncthreads();
      if (by <= thread && thread < THREADS) sum += ends[thread - by];
      __syncthreads();
    }
    if (thread == THREADS - 1) ends[0] = sum;
    const i64 own = tile - before - (sum - tiles);
    if (0 <= own && own < tiles) {
      found[0] = number;
      found[1] = start + own * ROWS;
      found[2] = end;
    }
    __syncthreads();
    before += ends[0];
    __syncthreads();
  }
  const i64 number = found[0];
  return Stretch{number, number < 0 ? 0 : found[1], number < 0 ? 0 : found[2]};
}
