// A plain main for a fuzz target: all seeds, then mutations of them, from a seeded generator.
//   TARGET [--runs=N] [--seconds=S] [--seed=N] [FILE...]   files are run as they are
//   TARGET --write-seeds=DIRECTORY                        for libFuzzer
// A crash prints the input in hex; in a FILE whose name ends in .hex it is run again.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "netstack/base/random.h"
#include "tests/fuzz/fuzz.h"
#include "tests/netstack/testing/crash_note.h"

namespace userstack::testing {
namespace {

constexpr size_t kMaxInput = 4096;

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  Bytes Mutate(const std::vector<Bytes>& corpus) {
    Bytes out = corpus[random_.Below(corpus.size())];
    const uint64_t steps = 1 + random_.Below(8);
    for (uint64_t i = 0; i < steps; ++i) Step(corpus, &out);
    if (out.size() > kMaxInput) out.resize(kMaxInput);
    return out;
  }

 private:
  void Step(const std::vector<Bytes>& corpus, Bytes* b) {
    if (b->empty()) b->push_back(0);
    const size_t at = random_.Below(b->size());
    static constexpr uint8_t kInteresting[] = {0, 1, 2, 4, 8, 16, 32, 40, 64, 127, 128, 254, 255};
    switch (random_.Below(8)) {
      case 0:
        (*b)[at] ^= static_cast<uint8_t>(1u << random_.Below(8));
        return;
      case 1:
        (*b)[at] = static_cast<uint8_t>(random_.Next());
        return;
      case 2:
        (*b)[at] = kInteresting[random_.Below(std::size(kInteresting))];
        return;
      case 3:
        b->insert(b->begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random_.Next()));
        return;
      case 4: {
        const size_t n = 1 + random_.Below(std::min<size_t>(b->size() - at, 16));
        b->erase(b->begin() + static_cast<ptrdiff_t>(at),
                 b->begin() + static_cast<ptrdiff_t>(at + n));
        return;
      }
      case 5: {  // repeat a piece
        const size_t n = 1 + random_.Below(std::min<size_t>(b->size() - at, 64));
        const Bytes piece(b->begin() + static_cast<ptrdiff_t>(at),
                          b->begin() + static_cast<ptrdiff_t>(at + n));
        b->insert(b->begin() + static_cast<ptrdiff_t>(random_.Below(b->size())), piece.begin(),
                  piece.end());
        return;
      }
      case 6: {  // go on with another input
        const Bytes& other = corpus[random_.Below(corpus.size())];
        if (other.empty()) return;
        const size_t from = random_.Below(other.size());
        b->resize(at);
        b->insert(b->end(), other.begin() + static_cast<ptrdiff_t>(from), other.end());
        return;
      }
      default: {  // arithmetic on a 16-bit field
        if (at + 2 > b->size()) return;
        const auto delta = static_cast<int>(random_.Below(71)) - 35;
        const int v = ((*b)[at] << 8 | (*b)[at + 1]) + delta;
        (*b)[at] = static_cast<uint8_t>(v >> 8);
        (*b)[at + 1] = static_cast<uint8_t>(v);
        return;
      }
    }
  }

  Random random_;
};

struct Arguments {
  uint64_t runs = 2000, seconds = 0, seed = 1;
  std::string seeds_directory;
  std::vector<std::string> files;
};

bool TakeValue(const char* argument, const char* name, std::string* value) {
  const size_t n = std::strlen(name);
  if (std::strncmp(argument, name, n) != 0 || argument[n] != '=') return false;
  *value = argument + n + 1;
  return true;
}

Arguments Parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    std::string value;
    if (TakeValue(argv[i], "--runs", &value)) {
      out.runs = std::stoull(value);
    } else if (TakeValue(argv[i], "--seconds", &value)) {
      out.seconds = std::stoull(value);
    } else if (TakeValue(argv[i], "--seed", &value)) {
      out.seed = std::stoull(value);
    } else if (TakeValue(argv[i], "--write-seeds", &value)) {
      out.seeds_directory = value;
    } else {
      out.files.emplace_back(argv[i]);
    }
  }
  return out;
}

void RunOne(const Bytes& input) {
  const CrashNote note([&] {
    std::fprintf(stderr, "input (%zu bytes): ", input.size());
    for (const uint8_t byte : input) std::fprintf(stderr, "%02x", byte);
    std::fprintf(stderr, "\n");
  });
  FuzzOne(input.data(), input.size());
}

// A file of raw bytes, or with the ending .hex of what a crash printed.
Bytes ReadInput(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string raw((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (path.size() < 4 || path.substr(path.size() - 4) != ".hex") return {raw.begin(), raw.end()};
  Bytes out;
  for (size_t i = 0; i + 1 < raw.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(std::stoi(raw.substr(i, 2), nullptr, 16)));
  }
  return out;
}

int Main(int argc, char** argv) {
  const Arguments arguments = Parse(argc, argv);
  const std::vector<Bytes> seeds = FuzzSeeds();
  if (!arguments.seeds_directory.empty()) {
    for (size_t i = 0; i < seeds.size(); ++i) {
      std::ofstream out(arguments.seeds_directory + "/seed" + std::to_string(i), std::ios::binary);
      out.write(reinterpret_cast<const char*>(seeds[i].data()),
                static_cast<std::streamsize>(seeds[i].size()));
    }
    return 0;
  }
  InstallCrashSignals();
  for (const std::string& file : arguments.files) RunOne(ReadInput(file));
  if (!arguments.files.empty()) return 0;
  for (const Bytes& seed : seeds) RunOne(seed);
  Mutator mutator(arguments.seed);
  const auto begin = std::chrono::steady_clock::now();
  uint64_t runs = 0;
  for (; runs < arguments.runs; ++runs) {
    const auto elapsed = std::chrono::steady_clock::now() - begin;
    if (arguments.seconds != 0 && elapsed > std::chrono::seconds(arguments.seconds)) break;
    RunOne(mutator.Mutate(seeds));
  }
  std::printf("%zu seeds, %llu mutations\n", seeds.size(), static_cast<unsigned long long>(runs));
  return 0;
}

}  // namespace
}  // namespace userstack::testing

int main(int argc, char** argv) { return userstack::testing::Main(argc, argv); }
