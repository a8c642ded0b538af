// CUDA C++ on a CPU: one fiber for each thread of a block, blocks one after the other.
//
// A barrier is a switch to the next thread; when all have come to it, they go on. So do those of a warp at a shuffle.
// Memory that a block shares is seen through `shared<T>`, which remembers who touched which byte since the last barrier:
// two threads, one of which writes, are a race and reported. So is a barrier that some threads never reach, and a write
// beside an array. Instructions of a whole warp (matrices of tensor cores) have scalar twins, to which each thread brings
// its part as to a shuffle.
#define EGRAFT_SHIM 1
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__ inline
#define __shared__
#define __align__(n)
#define __launch_bounds__(n)

struct Dim3 { unsigned x, y, z; };

namespace shim {

const size_t STACK = 64 << 10;

const unsigned WARP = 32;

// What a thread waits for: nothing, all threads of its block, or those of its warp in a mask.
const unsigned long long NOTHING = 0, BLOCK = 1ull << 32;

// A fiber begins once and runs one thread after the other. Switches are jumps: they ask nothing of the system.
// 16 bytes that are on their way to shared memory, or zeros.
struct Copy {
  int at;
  unsigned long long bytes[2];
};

struct Fiber {
  jmp_buf at;
  bool begun, done;
  unsigned long long awaits;
  // What it shows to others of its warp, and what it showed when they last met.
  unsigned char shows[24], shown[24];
  // Those of its warp with which it last had a barrier, and when.
  unsigned met;
  unsigned long met_at;
  // Groups of copies to shared memory that it has not waited for; the last one is not ended.
  std::vector<std::vector<Copy>> copies;
};

inline jmp_buf scheduler;
inline std::vector<Fiber> fibers;
inline std::vector<char> stacks;
inline unsigned current;
inline std::string problem;
inline std::vector<unsigned char> shared_memory;

// Who touched a byte, and when last: threads of a warp, or of SEVERAL. Barriers are what time is counted by.
const unsigned SEVERAL = ~0u;
struct Touch {
  unsigned long when;
  unsigned warp, lanes;
};
inline std::vector<Touch> readers, writers;
inline unsigned long now, last_barrier;

inline void report(const std::string& what) {
  if (problem.empty()) problem = what;
}

// Does a barrier stand between that and what the current thread does now? What it did itself is behind it, too.
inline bool is_behind(const Touch& touch) {
  if (touch.when <= last_barrier) return true;
  if (touch.warp != current / WARP) return false;
  const Fiber& me = fibers[current];
  const unsigned others = touch.lanes & ~(1u << current % WARP);
  return !others || (!(others & ~me.met) && touch.when <= me.met_at);
}

inline std::string name_of(const Touch& touch) {
  const bool is_one = touch.warp != SEVERAL && !(touch.lanes & (touch.lanes - 1));
  return is_one ? "thread " + std::to_string(touch.warp * WARP + __builtin_ctz(touch.lanes)) : "several threads";
}

inline void touch(size_t at, size_t bytes, bool writes) {
  const Touch mine{now, current / WARP, 1u << current % WARP};
  for (size_t byte = at; byte < at + bytes; byte += 1) {
    if (byte >= shared_memory.size()) return report("shared memory ends before byte " + std::to_string(byte));
    const bool beside_writer = !is_behind(writers[byte]), beside_reader = writes && !is_behind(readers[byte]);
    if (beside_writer || beside_reader) {
      report("race: thread " + std::to_string(current) + (writes ? " writes" : " reads") + " byte " + std::to_string(byte) +
             " of shared memory, which " + name_of(beside_writer ? writers[byte] : readers[byte]) +
             " touched since the last barrier");
    }
    Touch& who = writes ? writers[byte] : readers[byte];
    if (is_behind(who)) who = mine;
    else who = Touch{now, who.warp == mine.warp ? who.warp : SEVERAL, who.lanes | mine.lanes};
  }
}

template <class T> struct Element {
  size_t at;
  operator T() const {
    touch(at, sizeof(T), false);
    T value;
    if (at + sizeof(T) > shared_memory.size()) return T();
    memcpy(&value, &shared_memory[at], sizeof(T));
    return value;
  }
  T operator=(T value) const {
    touch(at, sizeof(T), true);
    if (at + sizeof(T) <= shared_memory.size()) memcpy(&shared_memory[at], &value, sizeof(T));
    return value;
  }
  T operator=(const Element& other) const { return *this = (T)other; }
};

template <class T> struct Shared {
  size_t first;
  Element<T> operator[](long long i) const { return Element<T>{first + i * sizeof(T)}; }
};

// Calls a kernel with as many pointers as it takes, then sizes.
template <class... P, size_t... I>
void call(void (*function)(P...), void** arrays, long long* sizes, std::index_sequence<I...>) {
  constexpr size_t pointers = (0 + ... + (std::is_pointer_v<P> ? 1 : 0));
  auto argument = [&](auto tag, size_t i) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_pointer_v<T>) return (T)arrays[i]; else return (T)sizes[i - pointers];
  };
  function(argument(std::enable_if<true, P>(), I)...);
}

template <class... P> void invoke(void (*function)(P...), void** arrays, long long* sizes) {
  call(function, arrays, sizes, std::index_sequence_for<P...>());
}

struct Function {
  const char* name;
  void (*run)(void**, long long*);
};

inline const Function* function;
inline void** arrays;
inline long long* sizes;

// Back to the scheduler, until it resumes this thread.
inline void yield() {
  if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
}

inline void fiber_main() {
  for (;;) {
    function->run(arrays, sizes);
    for (const auto& group : fibers[current].copies)
      if (!group.empty()) report("copies to shared memory that nobody waits for");
    fibers[current].done = true;
    yield();
  }
}

// Lets the current thread go on until it yields.
inline void resume() {
  if (_setjmp(scheduler)) return;
  Fiber& fiber = fibers[current];
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = &stacks[current * STACK];
  context.uc_stack.ss_size = STACK;
  context.uc_link = nullptr;
  makecontext(&context, fiber_main, 0);
  setcontext(&context);
}

}  // namespace shim

inline Dim3 blockIdx, gridDim, blockDim;
struct ThreadIdx {
  struct { operator unsigned() const { return shim::current; } } x;
};
inline ThreadIdx threadIdx;

namespace shim {

// Waits for threads.
inline void meet(unsigned long long awaits) {
  fibers[current].awaits = awaits;
  yield();
}

}  // namespace shim

inline void __syncthreads() { shim::meet(shim::BLOCK); }

inline void __syncwarp(unsigned mask = ~0u) {
  shim::meet(mask);
  shim::fibers[shim::current].met = mask;
  shim::fibers[shim::current].met_at = shim::now - 1;
}

namespace shim {

// What another thread of the group shows.
template <class T> T shown_by(unsigned other, unsigned mask, T x) {
  memcpy(fibers[current].shows, &x, sizeof(T));
  meet(mask);
  if (!(mask >> other % WARP & 1)) report("a shuffle with a thread that it does not name");
  memcpy(&x, fibers[other].shown, sizeof(T));
  return x;
}

// What each lane of the warp has brought to an instruction of all of them.
struct Brought {
  const Fiber* lanes;
  const unsigned* operator[](unsigned lane) const { return (const unsigned*)lanes[lane].shown; }
};

// Waits until all threads of the warp have brought something.
template <size_t N> Brought together(const unsigned (&mine)[N]) {
  memcpy(fibers[current].shows, mine, sizeof mine);
  meet(~0u);
  return Brought{&fibers[current / WARP * WARP]};
}

inline unsigned short half(unsigned word, unsigned which) { return (unsigned short)(word >> (16 * which)); }

// `mma.m16n8k16`: rows of `a` by columns of `b`, in ascending order. A thread has elements of both, and of the sums.
template <class Decode> void mma(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, Decode decode) {
  const auto all = together({a[0], a[1], a[2], a[3], b0, b1});
  const unsigned lane = current % WARP;
  for (unsigned e = 0; e < 4; e += 1) {
    const unsigned row = lane / 4 + e / 2 * 8, col = lane % 4 * 2 + e % 2;
    for (unsigned k = 0; k < 16; k += 1) {
      const unsigned x = all[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], y = all[col * 4 + k % 8 / 2][4 + k / 8];
      sums[e] = fmaf(decode(half(x, k % 2)), decode(half(y, k % 2)), sums[e]);
    }
  }
}

// `mma.m16n8k8`: the same of floats that were rounded to TF32.
inline void mma_tf32(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  const auto all = together({a[0], a[1], a[2], a[3], b0, b1});
  const unsigned lane = current % WARP;
  const auto number = [](unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    if (x == x && bits & 0x1fff) report("an operand of a tensor core that is not rounded to TF32");
    return x;
  };
  for (unsigned e = 0; e < 4; e += 1) {
    const unsigned row = lane / 4 + e / 2 * 8, col = lane % 4 * 2 + e % 2;
    for (unsigned k = 0; k < 8; k += 1) {
      const unsigned x = all[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2], y = all[col * 4 + k % 4][4 + k / 4];
      sums[e] = fmaf(number(x), number(y), sums[e]);
    }
  }
}

}  // namespace shim

// Lanes count from the first of so many that lie together; beyond the last there is none but the thread itself.
template <class T> T __shfl_sync(unsigned mask, T x, int lane, int width = 32) {
  return shim::shown_by(shim::current / width * width + lane % width, mask, x);
}

template <class T> T __shfl_down_sync(unsigned mask, T x, int distance, int width = 32) {
  const bool is_there = (int)(shim::current % width) + distance < width;
  return shim::shown_by(shim::current + (is_there ? distance : 0), mask, x);
}

template <class T> shim::Shared<T> shared(int first) { return shim::Shared<T>{(size_t)first}; }

// `ldmatrix`: each thread reads a row of one of four matrices.
template <bool TRANSPOSED> void load_matrices(unsigned (&to)[4], int at) {
  if (at % 16 != 0) shim::report("a row of a matrix at byte " + std::to_string(at) + " of shared memory");
  const auto row = shared<unsigned>(at);
  const auto all = shim::together({row[0], row[1], row[2], row[3]});
  const unsigned i = shim::current % shim::WARP / 4, j = shim::current % 4 * 2;
  for (unsigned m = 0; m < 4; m += 1) {
    const auto element = [&](unsigned row, unsigned col) { return (unsigned)shim::half(all[8 * m + row][col / 2], col % 2); };
    to[m] = TRANSPOSED ? element(j, i) | element(j + 1, i) << 16 : element(i, j) | element(i, j + 1) << 16;
  }
}

// `cp.async`: as late as may be. Until then, what was there is lost.
inline void copy_later(int at, const void* from, bool is_there) {
  if (at % 16 != 0 || (size_t)from % 16 != 0) shim::report("a copy of 16 bytes that do not start at a multiple of 16");
  shim::Copy copy{at, {0, 0}};
  if (is_there) memcpy(copy.bytes, from, 16);
  for (int i = 0; i < 2; i += 1) shared<unsigned long long>(at)[i] = 0xAAAAAAAAAAAAAAAAull;
  shim::fibers[shim::current].copies.back().push_back(copy);
}
inline void end_group() { shim::fibers[shim::current].copies.emplace_back(); }
template <int LAST> void wait_for_groups() {
  auto& groups = shim::fibers[shim::current].copies;
  while ((int)groups.size() - 1 > LAST) {
    for (const auto& copy : groups.front())
      for (int i = 0; i < 2; i += 1) shared<unsigned long long>(copy.at)[i] = copy.bytes[i];
    groups.erase(groups.begin());
  }
}

inline int __float_as_int(float x) { int bits; memcpy(&bits, &x, 4); return bits; }
inline float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }
inline long long __double_as_longlong(double x) { long long bits; memcpy(&bits, &x, 8); return bits; }
inline double __longlong_as_double(long long bits) { double x; memcpy(&x, &bits, 8); return x; }

namespace shim {

// Lets those of a warp go on that have met.
inline bool meetings(unsigned threads) {
  bool any = false;
  for (unsigned i = 0; i < threads; i += 1) {
    const unsigned long long mask = fibers[i].awaits;
    if (fibers[i].done || mask == NOTHING || mask == BLOCK) continue;
    std::vector<unsigned> members;
    for (unsigned lane = 0; lane < WARP; lane += 1)
      if (mask >> lane & 1) members.push_back(i / WARP * WARP + lane);
    bool all = mask >> i % WARP & 1;
    for (unsigned member : members) all = all && member < threads && !fibers[member].done && fibers[member].awaits == mask;
    if (!all) continue;
    for (unsigned member : members) {
      fibers[member].awaits = NOTHING;
      memcpy(fibers[member].shown, fibers[member].shows, sizeof fibers[member].shown);
    }
    any = true;
  }
  now += any;
  return any;
}

inline void run_block(unsigned threads) {
  std::fill(shared_memory.begin(), shared_memory.end(), 0xAA);
  for (unsigned i = 0; i < threads; i += 1) {
    fibers[i].done = false;
    fibers[i].awaits = NOTHING;
    fibers[i].met = 0;
    fibers[i].copies.assign(1, {});
  }
  last_barrier = now++;
  for (unsigned left = threads, before = left; left > 0 && problem.empty();) {
    unsigned waiting = 0;
    for (current = 0; current < threads; current += 1) {
      if (fibers[current].done) continue;
      if (fibers[current].awaits == NOTHING) {
        resume();
        left -= fibers[current].done;
      }
      waiting += !fibers[current].done && fibers[current].awaits == BLOCK;
    }
    if (left == 0 || meetings(threads)) continue;
    if (waiting != left) report("a shuffle, an instruction or a barrier of a warp that some of its threads never reach");
    if (waiting != before) report("a barrier that only some threads of a block reach");
    for (unsigned i = 0; i < threads; i += 1) fibers[i].awaits = NOTHING;
    last_barrier = now++;
    before = left;
  }
}

inline void launch(const Function& which, unsigned long long blocks, unsigned threads, size_t bytes) {
  function = &which;
  if (fibers.size() < threads) {
    fibers.assign(threads, Fiber{});
    stacks.resize(threads * STACK);
  }
  shared_memory.assign(bytes, 0);
  readers.assign(bytes, Touch{});
  writers.assign(bytes, Touch{});
  gridDim = {(unsigned)blocks, 1, 1};
  blockDim = {threads, 1, 1};
  for (unsigned block = 0; block < blocks && problem.empty(); block += 1) {
    blockIdx = {block, 0, 0};
    run_block(threads);
  }
  // Some threads may stand where a problem was found.
  if (!problem.empty()) fibers.clear();
}

// How many parameters a function has, and how many of them, the first, are pointers.
template <class... P> int count(void (*)(P...), int* pointers) {
  *pointers = (0 + ... + (std::is_pointer_v<P> ? 1 : 0));
  return sizeof...(P);
}

// A launch as CUDA's driver is told of it: a pointer to each parameter. What went wrong, or null.
template <class... P>
const char* run(void (*kernel)(P...), void** params, unsigned blocks, unsigned threads, size_t bytes) {
  static std::vector<void*> pointers;
  static std::vector<long long> values;
  static auto target = kernel;
  target = kernel;
  pointers.clear();
  values.clear();
  const bool is_pointer[] = {std::is_pointer_v<P>...};
  for (size_t i = 0; i < sizeof...(P); i += 1) {
    if (is_pointer[i]) pointers.push_back(*(void**)params[i]); else values.push_back(*(long long*)params[i]);
  }
  arrays = pointers.data();
  sizes = values.data();
  problem.clear();
  launch(Function{"", [](void** arrays, long long* sizes) { invoke(target, arrays, sizes); }}, blocks, threads, bytes);
  return problem.empty() ? nullptr : problem.c_str();
}

inline void read(void* to, size_t bytes) {
  if (bytes && fread(to, 1, bytes, stdin) != bytes) exit(0);
}

template <class T> T number() {
  T value;
  read(&value, sizeof(T));
  return value;
}

const size_t GUARD = 64;
const unsigned char GUARD_BYTE = 0xC5;

// Requests come in until the input ends: the number of a function, blocks, threads, shared bytes, arrays and sizes.
// The answer is a message, empty if all is well, and the arrays.
inline int serve(const Function* functions) {
  for (;;) {
    const Function& which = functions[number<uint32_t>()];
    const auto blocks = number<uint64_t>();
    const auto threads = number<uint32_t>();
    const auto bytes = number<uint64_t>();
    std::vector<std::vector<unsigned char>> memory(number<uint32_t>());
    std::vector<void*> pointers;
    for (auto& array : memory) {
      const size_t length = number<uint64_t>();
      array.assign(length + 2 * GUARD, GUARD_BYTE);
      read(&array[GUARD], length);
      pointers.push_back(&array[GUARD]);
    }
    std::vector<long long> values(number<uint32_t>());
    for (auto& value : values) value = number<int64_t>();
    arrays = pointers.data();
    sizes = values.data();
    problem.clear();
    launch(which, blocks, threads, bytes);
    for (size_t i = 0; i < memory.size(); i += 1) {
      const auto& array = memory[i];
      for (size_t at = 0; at < GUARD; at += 1)
        if (array[at] != GUARD_BYTE || array[array.size() - 1 - at] != GUARD_BYTE)
          report("a write beside array " + std::to_string(i));
    }
    if (!problem.empty()) problem = std::string(which.name) + ": " + problem;
    const uint32_t length = problem.size();
    fwrite(&length, 4, 1, stdout);
    fwrite(problem.data(), 1, length, stdout);
    for (const auto& array : memory) fwrite(&array[GUARD], 1, array.size() - 2 * GUARD, stdout);
    fflush(stdout);
  }
}

}  // namespace shim
