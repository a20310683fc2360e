// Planted violations of the arena rule, one a field, for the test of scripts/check-arena. Nothing
// runs this; it is compiled for its debug information.
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"

namespace userstack::planted {

struct WithVirtual {
  virtual ~WithVirtual() = default;
  int x = 0;
};

struct Elsewhere {
  void (*function)(int) = nullptr;
};

struct Deep {
  std::vector<int> numbers;
};

struct Member {
  int value = 0;
  int Get() { return value; }
};

struct Fine {
  ListNode node;
  Fine* next = nullptr;
  uint8_t* bytes = nullptr;
  std::atomic<Fine*> atomic_next{nullptr};
  int Member::*data_member = nullptr;
  static inline const char* name = "static members are not in the arena";
};

struct Violations {
  explicit Violations(int& x) : reference(x) {}
  void (*function)(int) = nullptr;
  std::function<void()> closure;
  int (Member::*method)() = nullptr;
  std::string text;
  const char* literal = "in the library";
  std::unique_ptr<int> heap;
  void* anything = nullptr;
  int& reference;
  Deep deep[2];
  const Elsewhere* elsewhere = nullptr;
  WithVirtual* virtual_object = nullptr;
  FILE* file = nullptr;
  Fine fine;
  union {
    int number = 0;
    float fraction;
  };
  union {
    const char* in_second_union = nullptr;
    int unused;
  };
};

Pool<Violations> violations_pool;
Pool<Fine> fine_pool;
WithVirtual virtual_object;

void Use(int& x, Fine* fine) {
  violations_pool.Delete(violations_pool.New(x));
  fine_pool.Delete(fine);
}

}  // namespace userstack::planted
