// What the library costs a program that calls write(2) on a kernel descriptor. Each benchmark
// exists twice: through libc's symbol (which the library hooks when it is preloaded) and as the
// bare system call. bench/passthrough runs this with and without the library and subtracts.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

constexpr int kDrainEvery = 4096;

long BareWrite(int fd, const void* bytes, size_t length) {
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(long{SYS_write}), "D"(long{fd}), "S"(bytes), "d"(length)
               : "rcx", "r11", "memory");
  return result;
}

class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_, O_CLOEXEC) != 0) std::abort();
  }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  int input() const { return ends_[1]; }
  void Drain() {
    char bytes[kDrainEvery];
    if (read(ends_[0], bytes, sizeof bytes) != kDrainEvery) std::abort();
  }

 private:
  int ends_[2];
};

template <typename Write>
void WriteByteToPipe(benchmark::State& state, Write write_one) {
  Pipe pipe;
  const char byte = 'x';
  int count = 0;
  for (auto _ : state) {
    if (write_one(pipe.input(), &byte) != 1) std::abort();
    if (++count % kDrainEvery == 0) pipe.Drain();
  }
}

void BM_WriteToPipe(benchmark::State& state) {
  WriteByteToPipe(state, [](int fd, const char* byte) { return write(fd, byte, 1); });
}
void BM_BareWriteToPipe(benchmark::State& state) {
  WriteByteToPipe(state, [](int fd, const char* byte) { return BareWrite(fd, byte, 1); });
}
// A call that the kernel refuses at once, so that the rest is not lost in its noise.
void BM_WriteToNothing(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(write(-1, nullptr, 0));
}
void BM_BareWriteToNothing(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(BareWrite(-1, nullptr, 0));
}

BENCHMARK(BM_WriteToPipe);
BENCHMARK(BM_BareWriteToPipe);
BENCHMARK(BM_WriteToNothing);
BENCHMARK(BM_BareWriteToNothing);

}  // namespace

// With an argument `attach` the process makes a socket first, so that a configured library has its
// stack attached and each call looks its descriptor up.
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "attach") continue;
    if (socket(AF_INET, SOCK_STREAM, 0) < 0) {
      std::perror("socket");
      return 1;
    }
    for (int j = i; j + 1 < argc; ++j) argv[j] = argv[j + 1];
    --argc;
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
