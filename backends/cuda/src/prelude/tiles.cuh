// Elements that lie side by side, brought at once.
template <class T, int N> struct alignas(sizeof(T) * N) Pack {
  using Of = T;
  T of[N];
};

// How the 256 threads of a block bring a tile of an operand: LENGTH rows or columns by STEPS of the sum, packs that lie along
// the sum or across it. What is beside the matrix is zero.
template <int LENGTH, int STEPS, bool ALONG, class P> struct Part {
  static constexpr int WIDTH = sizeof(P) / sizeof(typename P::Of), ALL = LENGTH * STEPS / WIDTH, COUNT = (ALL + 255) / 256;
  P kept[COUNT];
  static __device__ int place(int pack) { return ALONG ? pack / (STEPS / WIDTH) : pack % (LENGTH / WIDTH) * WIDTH; }
  static __device__ int step(int pack) { return ALONG ? pack % (STEPS / WIDTH) * WIDTH : pack / (LENGTH / WIDTH); }
  template <class Operand> __device__ void fetch(const Operand& operand, int length, i64 first, i64 steps) {
    #pragma unroll
    for (int n = 0; n < COUNT; n += 1) {
      const int pack = n * 256 + threadIdx.x, i = place(pack);
      const i64 k = first + step(pack);
      kept[n] = P();
      if (pack < ALL && i < length && k < steps) kept[n] = operand(i, k);
    }
  }
  // To shared memory, where steps are rows or, with packs as they are, whatever packs lie across.
  template <int ROW, bool STEPS_ARE_ROWS> __device__ void put(int at) const {
    #pragma unroll
    for (int n = 0; n < COUNT; n += 1) {
      const int pack = n * 256 + threadIdx.x, i = place(pack), k = step(pack);
      if (pack >= ALL) continue;
      if (ALONG && STEPS_ARE_ROWS) {
        for (int e = 0; e < WIDTH; e += 1) shared<typename P::Of>(at)[(k + e) * ROW + i] = kept[n].of[e];
      } else {
        shared<P>(at)[(ALONG ? i * ROW + k : k * ROW + i) / WIDTH] = kept[n];
      }
    }
  }
};
