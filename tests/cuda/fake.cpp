// CUDA's driver and NVRTC on a CPU, for tests: this library is built as both, and put where programs look for them.
//
// NVRTC's part has the C++ compiler make a library of a source with `shim.h` in front; an image is the path of that. The
// driver's part runs its functions on memory that only calls of the driver may touch: a program that looks into it
// crashes. Work is done as late as a real driver may do it, when somebody waits. Every allocation has guards on both
// sides; copies and the arrays of launches must lie in allocations. All calls are noted in a file, and what goes wrong.
//
// $EGRAFT_FAKE_CUDA is a folder with `shim.h` and `flags` for the compiler, where libraries are made; $EGRAFT_FAKE_CALLS is the
// file of calls.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

std::string folder() {
  const char* path = getenv("EGRAFT_FAKE_CUDA");
  return path ? path : ".";
}

void note(const std::string& line) {
  static FILE* file = getenv("EGRAFT_FAKE_CALLS") ? fopen(getenv("EGRAFT_FAKE_CALLS"), "a") : nullptr;
  if (file) fprintf(file, "%s\n", line.c_str()), fflush(file);
}

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900 };

int wrong(int code, const std::string& why) {
  note("wrong: " + why);
  return code;
}

// Memory: one range of addresses, of which nothing is used twice.
const size_t POOL = 64ull << 30, GUARD = 256;
const unsigned char GUARD_BYTE = 0xC5, FRESH = 0xAA;
char* pool;
size_t used;
std::map<char*, size_t> allocations;

// While it lives, memory may be touched.
struct Open {
  Open() { if (pool) mprotect(pool, used, PROT_READ | PROT_WRITE); }
  ~Open() { if (pool && used) mprotect(pool, used, PROT_NONE); }
};

// Whether so many bytes lie in one allocation.
bool inside(const void* at, size_t bytes) {
  auto next = allocations.upper_bound((char*)at);
  if (next == allocations.begin()) return false;
  auto [start, length] = *std::prev(next);
  return (char*)at + bytes <= start + length;
}

bool guards_are_whole() {
  for (auto [start, length] : allocations)
    for (size_t i = 0; i < GUARD; i += 1)
      if ((unsigned char)start[-1 - (long)i] != GUARD_BYTE || (unsigned char)start[length + i] != GUARD_BYTE) return false;
  return true;
}

using Work = std::function<int()>;

struct Graph { std::vector<Work> work; };

struct Stream {
  std::vector<Work> pending;
  Graph* capture = nullptr;

  int take(const char* call, Work work) {
    note(std::string(call) + (capture ? " (captured)" : ""));
    (capture ? capture->work : pending).push_back(std::move(work));
    return SUCCESS;
  }
  int finish() {
    Open open;
    int result = SUCCESS;
    for (auto& work : pending)
      if (result == SUCCESS) result = work();
    pending.clear();
    return result;
  }
};

std::vector<Stream*> streams;

struct Module {
  void* library;
  int (*count)(const char*, int*);
  const char* (*launch)(const char*, void**, unsigned, unsigned, size_t);
};

struct Function {
  Module* module;
  std::string name;
  int count, pointers;
};

struct Program {
  std::string text, log, image;
};

}  // namespace

API int cuInit(unsigned) { return note("cuInit"), SUCCESS; }
API int cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
API int cuDeviceGet(int* device, int) { return *device = 0, SUCCESS; }
API int cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "a CPU that plays a GPU"), SUCCESS; }
API int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute == 75 ? 8 : 0, SUCCESS; }
API int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &pool, SUCCESS; }
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxSetCurrent(void* context) { return context == &pool ? SUCCESS : INVALID_VALUE; }
API int cuGetErrorString(int code, const char** text) {
  *text = code == OUT_OF_MEMORY ? "out of memory" : code == LAUNCH_FAILED ? "unspecified launch failure" : "invalid argument";
  return SUCCESS;
}

API int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  note("cuMemAlloc " + std::to_string(bytes));
  if (!pool) pool = (char*)mmap(nullptr, POOL, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  const size_t whole = (bytes + 2 * GUARD + 4095) / 4096 * 4096;
  if (used + whole > POOL) return OUT_OF_MEMORY;
  char* start = pool + used + GUARD;
  used += whole;
  Open open;
  memset(start - GUARD, GUARD_BYTE, GUARD);
  memset(start, FRESH, bytes < (1 << 20) ? bytes : 1 << 20);
  memset(start + bytes, GUARD_BYTE, GUARD);
  allocations[start] = bytes;
  *address = (uint64_t)start;
  return SUCCESS;
}

API int cuMemFree_v2(uint64_t address) {
  note("cuMemFree");
  for (auto stream : streams) stream->finish();
  Open open;
  if (!guards_are_whole()) return wrong(LAUNCH_FAILED, "a write beside an allocation");
  return allocations.erase((char*)address) ? SUCCESS : wrong(INVALID_VALUE, "what is freed was not allocated");
}

API int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, Stream* stream) {
  if (!inside((void*)to, bytes)) return wrong(INVALID_VALUE, "a fill beside an allocation");
  return stream->take("cuMemsetD8", [=] { return memset((void*)to, value, bytes), SUCCESS; });
}

API int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Stream* stream) {
  if (!inside((void*)to, bytes)) return wrong(INVALID_VALUE, "a copy beside an allocation");
  if (stream->capture) return wrong(CAPTURE_UNSUPPORTED, "a copy from the host is captured");
  std::vector<char> copy((const char*)from, (const char*)from + bytes);
  return stream->take("cuMemcpyHtoD", [=] { return memcpy((void*)to, copy.data(), bytes), SUCCESS; });
}

API int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Stream* stream) {
  if (!inside((void*)from, bytes)) return wrong(INVALID_VALUE, "a copy from beside an allocation");
  if (stream->capture) return wrong(CAPTURE_UNSUPPORTED, "a copy to the host is captured");
  return stream->take("cuMemcpyDtoH", [=] { return memcpy(to, (void*)from, bytes), SUCCESS; });
}

API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream* stream) {
  if (!inside((void*)to, bytes) || !inside((void*)from, bytes)) return wrong(INVALID_VALUE, "a copy beside an allocation");
  return stream->take("cuMemcpyDtoD", [=] { return memcpy((void*)to, (void*)from, bytes), SUCCESS; });
}

API int cuModuleLoadData(Module** module, const char* image) {
  void* library = dlopen(image, RTLD_NOW | RTLD_LOCAL);
  if (!library) return wrong(INVALID_VALUE, dlerror());
  auto count = (int (*)(const char*, int*))dlsym(library, "shim_params");
  auto launch = (const char* (*)(const char*, void**, unsigned, unsigned, size_t))dlsym(library, "shim_launch");
  *module = new Module{library, count, launch};
  return note("cuModuleLoadData"), SUCCESS;
}

API int cuModuleUnload(Module* module) { return dlclose(module->library), delete module, SUCCESS; }

API int cuModuleGetFunction(Function** function, Module* module, const char* name) {
  int pointers = 0;
  const int count = module->count(name, &pointers);
  if (count < 0) return wrong(NOT_FOUND, std::string("no function ") + name);
  *function = new Function{module, name, count, pointers};
  return SUCCESS;
}

API int cuFuncSetAttribute(Function*, int attribute, int) { return attribute == 8 ? SUCCESS : INVALID_VALUE; }

API int cuLaunchKernel(Function* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned shared,
                       Stream* stream, void** params, void**) {
  if (x == 0 || y != 1 || z != 1 || threads == 0 || threads > 1024) return wrong(INVALID_VALUE, "a grid that is none");
  std::vector<uint64_t> values;
  for (int i = 0; i < function->count; i += 1) values.push_back(*(uint64_t*)params[i]);
  for (int i = 0; i < function->pointers; i += 1) {
    // One to no bytes may lead anywhere.
    if (values[i] > 64 && !inside((void*)values[i], 0)) return wrong(INVALID_VALUE, function->name + " is given memory of the host");
    if (values[i] % 16) return wrong(INVALID_VALUE, function->name + " is given an array at no multiple of 16 bytes");
  }
  return stream->take("cuLaunchKernel", [=]() mutable {
    std::vector<void*> pointers;
    for (auto& value : values) pointers.push_back(&value);
    const char* problem = function->module->launch(function->name.c_str(), pointers.data(), x, threads, shared);
    if (problem) return wrong(LAUNCH_FAILED, function->name + ": " + problem);
    return guards_are_whole() ? SUCCESS : wrong(LAUNCH_FAILED, function->name + " writes beside an allocation");
  });
}

API int cuEventCreate(double** event, unsigned) { return *event = new double(-1), note("cuEventCreate"), SUCCESS; }
API int cuEventDestroy_v2(double* event) { return delete event, note("cuEventDestroy"), SUCCESS; }
API int cuEventRecord(double* event, Stream* stream) {
  return stream->take("cuEventRecord", [=] {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return *event = now.tv_sec * 1e3 + now.tv_nsec / 1e6, SUCCESS;
  });
}
API int cuEventSynchronize(double*) {
  for (auto stream : streams) stream->finish();
  return SUCCESS;
}
API int cuEventElapsedTime(float* milliseconds, double* from, double* to) {
  if (*from < 0 || *to < 0) return wrong(INVALID_VALUE, "the time of what has not happened");
  return *milliseconds = float(*to - *from), SUCCESS;
}

API int cuStreamCreate(Stream** stream, unsigned) {
  *stream = new Stream;
  streams.push_back(*stream);
  return note("cuStreamCreate"), SUCCESS;
}
API int cuStreamDestroy_v2(Stream* stream) { return stream->finish(); }
API int cuStreamSynchronize(Stream* stream) {
  if (stream->capture) return wrong(CAPTURE_UNSUPPORTED, "somebody waits for what is captured");
  return stream->finish();
}
API int cuStreamBeginCapture_v2(Stream* stream, int) {
  if (stream->capture) return wrong(INVALID_VALUE, "it is captured already");
  stream->capture = new Graph;
  return note("cuStreamBeginCapture"), SUCCESS;
}
API int cuStreamEndCapture(Stream* stream, Graph** graph) {
  *graph = stream->capture;
  stream->capture = nullptr;
  return note("cuStreamEndCapture"), SUCCESS;
}
API int cuGraphInstantiateWithFlags(Graph** exec, Graph* graph, unsigned long long) {
  *exec = new Graph(*graph);
  return note("cuGraphInstantiate"), SUCCESS;
}
API int cuGraphDestroy(Graph* graph) { return delete graph, SUCCESS; }
API int cuGraphExecDestroy(Graph* exec) { return delete exec, SUCCESS; }
API int cuGraphLaunch(Graph* exec, Stream* stream) {
  for (auto& work : exec->work) stream->pending.push_back(work);
  return note("cuGraphLaunch"), SUCCESS;
}

API int nvrtcVersion(int* major, int* minor) { return *major = 0, *minor = 1, SUCCESS; }
API int nvrtcCreateProgram(Program** program, const char* text, const char*, int, const char* const*, const char* const*) {
  return *program = new Program{text, "", ""}, SUCCESS;
}

// A library with the functions of the source by name: how many parameters each has, and how it is launched.
API int nvrtcCompileProgram(Program* program, int, const char* const*) {
  const std::string head = "extern \"C\" __global__ void ";
  std::string counts, launches;
  for (size_t at = program->text.find(head); at != std::string::npos; at = program->text.find(head, at + 1)) {
    const size_t open = program->text.find(") ", at) + 2, close = program->text.find("(", open);
    const std::string name = program->text.substr(open, close - open);
    counts += "  if (name == \"" + name + "\") return shim::count(" + name + ", pointers);\n";
    launches += "  if (name == \"" + name + "\") return shim::run(" + name + ", params, blocks, threads, shared);\n";
  }
  const std::string hash = std::to_string(std::hash<std::string>()(program->text));
  const std::string library = folder() + "/" + hash + ".so";
  // Others may make the same at the same time.
  const std::string own = folder() + "/" + hash + "-" + std::to_string(getpid()), source = own + ".cpp", made = own + ".so";
  if (!std::ifstream(library)) {
    std::ofstream(source) << "#include \"shim.h\"\n" << program->text << "\nextern \"C\" int shim_params(const char* which, int* pointers) {\n"
                          << "  const std::string name = which;\n" << counts << "  return -1;\n}\n"
                          << "extern \"C\" const char* shim_launch(const char* which, void** params, unsigned blocks, unsigned threads, "
                          << "size_t shared) {\n  const std::string name = which;\n" << launches << "  return \"no such function\";\n}\n";
    const char* compiler = getenv("CXX");
    const std::string flags = " $(cat " + folder() + "/flags) -shared -o ";
    const std::string log = own + ".log";
    const std::string command = std::string(compiler ? compiler : "c++") + flags + made + " " + source + " 2> " + log;
    if (system(command.c_str())) {
      std::ifstream said(log);
      program->log.assign(std::istreambuf_iterator<char>(said), {});
      return 6;
    }
    rename(made.c_str(), library.c_str());
  }
  program->image = library;
  return note("nvrtcCompileProgram"), SUCCESS;
}
API int nvrtcGetProgramLogSize(Program* program, size_t* bytes) { return *bytes = program->log.size() + 1, SUCCESS; }
API int nvrtcGetProgramLog(Program* program, char* to) { return memcpy(to, program->log.c_str(), program->log.size() + 1), SUCCESS; }
API int nvrtcGetCUBINSize(Program* program, size_t* bytes) { return *bytes = program->image.size() + 1, SUCCESS; }
API int nvrtcGetCUBIN(Program* program, char* to) { return memcpy(to, program->image.c_str(), program->image.size() + 1), SUCCESS; }
API int nvrtcGetPTXSize(Program* program, size_t* bytes) { return nvrtcGetCUBINSize(program, bytes); }
API int nvrtcGetPTX(Program* program, char* to) { return nvrtcGetCUBIN(program, to); }
API int nvrtcDestroyProgram(Program** program) { return delete *program, SUCCESS; }
