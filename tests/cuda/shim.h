// CUDA C++ on a CPU: one fiber for each thread of a block, blocks one after the other.
//
// A barrier is a switch to the next thread; when all have come to it, they go on. Memory that a block shares is seen
// through `shared<T>`, which remembers who touched which byte since the last barrier: two threads, one of which writes,
// are a race and reported. So is a barrier that some threads never reach, and a write beside an array.
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

// A fiber begins once and runs one thread after the other. Switches are jumps: they ask nothing of the system.
struct Fiber {
  jmp_buf at;
  bool begun, done;
};

inline jmp_buf scheduler;
inline std::vector<Fiber> fibers;
inline std::vector<char> stacks;
inline unsigned current, waiting;
inline std::string problem;
inline std::vector<unsigned char> shared_memory;

// Who touched a byte since the last barrier: 0 nobody, else the thread's number plus 1, or MANY.
const unsigned MANY = ~0u;
inline std::vector<unsigned> readers, writers;

inline void report(const std::string& what) {
  if (problem.empty()) problem = what;
}

inline void touch(size_t at, size_t bytes, bool writes) {
  const unsigned me = current + 1;
  for (size_t byte = at; byte < at + bytes; byte += 1) {
    if (byte >= shared_memory.size()) return report("shared memory ends before byte " + std::to_string(byte));
    const bool raced = (writers[byte] && writers[byte] != me) || (writes && readers[byte] && readers[byte] != me);
    if (raced) {
      const unsigned other = writers[byte] && writers[byte] != me ? writers[byte] : readers[byte];
      report("race: thread " + std::to_string(current) + (writes ? " writes" : " reads") + " byte " + std::to_string(byte) +
             " of shared memory, which " + (other == MANY ? "several threads" : "thread " + std::to_string(other - 1)) +
             " touched since the last barrier");
    }
    unsigned& who = writes ? writers[byte] : readers[byte];
    who = who && who != me ? MANY : me;
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

inline void __syncthreads() {
  shim::waiting += 1;
  shim::yield();
}

template <class T> shim::Shared<T> shared(int first) { return shim::Shared<T>{(size_t)first}; }

inline int __float_as_int(float x) { int bits; memcpy(&bits, &x, 4); return bits; }
inline float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }
inline long long __double_as_longlong(double x) { long long bits; memcpy(&bits, &x, 8); return bits; }
inline double __longlong_as_double(long long bits) { double x; memcpy(&x, &bits, 8); return x; }

namespace shim {

inline void run_block(unsigned threads) {
  std::fill(readers.begin(), readers.end(), 0);
  std::fill(writers.begin(), writers.end(), 0);
  std::fill(shared_memory.begin(), shared_memory.end(), 0xAA);
  for (unsigned i = 0; i < threads; i += 1) fibers[i].done = false;
  for (unsigned left = threads; left > 0 && problem.empty();) {
    waiting = 0;
    const unsigned before = left;
    for (current = 0; current < threads; current += 1) {
      if (fibers[current].done) continue;
      resume();
      left -= fibers[current].done;
    }
    if (waiting > 0 && waiting != before) report("a barrier that only some threads of a block reach");
    std::fill(readers.begin(), readers.end(), 0);
    std::fill(writers.begin(), writers.end(), 0);
  }
}

inline void launch(const Function& which, unsigned long long blocks, unsigned threads, size_t bytes) {
  function = &which;
  if (fibers.size() < threads) {
    fibers.assign(threads, Fiber{});
    stacks.resize(threads * STACK);
  }
  shared_memory.assign(bytes, 0);
  readers.assign(bytes, 0);
  writers.assign(bytes, 0);
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
