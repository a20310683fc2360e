// Status and Result: a caller's mistake or a resource limit as a Linux errno value (positive; 0 is
// success).
#pragma once

#include <cerrno>
#include <utility>

namespace userstack {

class [[nodiscard]] Status {
 public:
  constexpr Status() = default;
  constexpr explicit Status(int error) : error_(error) {}
  static constexpr Status Ok() { return Status(); }
  constexpr bool ok() const { return error_ == 0; }
  constexpr int error() const { return error_; }  // a Linux errno value, 0 when ok
  constexpr bool operator==(const Status&) const = default;

 private:
  int error_ = 0;
};

// A value, or the errno that says why there is none. T is default-constructible.
template <typename T>
class [[nodiscard]] Result {
 public:
  constexpr Result(T value) : value_(std::move(value)) {}      // NOLINT: implicit by intent
  constexpr Result(Status status) : error_(status.error()) {}  // NOLINT: implicit by intent
  static constexpr Result Error(int error) { return Result(Status(error)); }
  constexpr bool ok() const { return error_ == 0; }
  constexpr int error() const { return error_; }
  constexpr Status status() const { return Status(error_); }
  constexpr const T& value() const { return value_; }
  constexpr T& value() { return value_; }
  constexpr const T& operator*() const { return value_; }

 private:
  T value_{};
  int error_ = 0;
};

}  // namespace userstack
