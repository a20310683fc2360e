// Explain: see explain.h. What it says comes from /proc and from the stack's own memory
// (stack_view.h); what the process would do next is nobody's to know, so "why" names the rule that
// fits what is there, and says so where none does.
#include "shim/tool/explain.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "shim/tool/configuration.h"
#include "shim/tool/process_files.h"
#include "shim/tool/stack_view.h"

namespace userstack::tool {
namespace {

constexpr int kSchema = 1;
constexpr int kLargestPid = 1 << 22;  // PID_MAX_LIMIT

struct Row {
  int descriptor = -1;
  std::string kind;
  std::string state;
  std::string local;
  std::string peer;
  bool on_stack = false;
  std::string why;
};

std::string EndText(const Endpoint& end) {
  const std::string address = AddressText(end.address);
  const std::string port = end.port == 0 ? "*" : std::to_string(end.port);
  return (end.address.is_v4() ? address : "[" + address + "]") + ":" + port;
}

class Explanation {
 public:
  explicit Explanation(const ProcessFiles& process)
      : process_(process),
        configuration_(process.Environment()),
        loaded_(process.Maps("libuserstack.so")) {}

  void Look() {
    found_ = view_.Open(process_, BuildIdOf(Beside("libuserstack.so")), &view_why_);
    const auto kernel = process_.KernelSockets();
    const std::vector<OpenFile> files = process_.Files();
    std::vector<StackSocket> listeners;
    std::vector<std::pair<int, StackSocket>> ours;
    const int own = FirstOwn(files);
    for (const OpenFile& file : files) {
      const bool may_be = file.socket != 0 || file.target == "anon_inode:[eventpoll]";
      const auto socket = may_be ? view_.At(file) : std::nullopt;
      if (socket.has_value()) {
        ours.emplace_back(file.number, *socket);
        if (socket->listening) listeners.push_back(*socket);
      } else if (file.socket != 0) {
        const auto entry = kernel.find(file.socket);
        if (entry != kernel.end()) {
          AddKernel(file.number, entry->second);
        } else if (own < 0 || file.number < own) {
          rows_.push_back({file.number, "other", "", "", "", false,
                           "not an Internet socket, or one without address"});
        }
      }
    }
    for (const auto& [number, socket] : ours) AddStack(number, socket, listeners);
    std::sort(rows_.begin(), rows_.end(),
              [](const Row& a, const Row& b) { return a.descriptor < b.descriptor; });
  }

  const std::vector<Row>& rows() const { return rows_; }

  // One line: does the process have a stack at all?
  std::string Summary() const {
    switch (found_) {
      case StackView::Found::kAttached:
        return (view_.failed() ? "its stack has failed; it was: " : "stack: ") +
               view_.configuration();
      case StackView::Found::kUnusable:
        return view_why_;
      case StackView::Found::kNone:
        break;
    }
    if (!loaded_) return "no stack: libuserstack.so is not loaded in it";
    if (!configuration_.usable) return "no stack: " + configuration_.why;
    return "no stack yet: it has made no Internet socket since the library was loaded";
  }
  bool attached() const { return found_ == StackView::Found::kAttached; }

 private:
  // The library's own descriptors lie above the program's, one beside the other; the arena's is
  // among them. Where the lowest of them is, or -1.
  static int FirstOwn(const std::vector<OpenFile>& files) {
    int first = -1;
    for (size_t i = files.size(); i-- > 0;) {
      const bool is_arena = files[i].target.starts_with("/memfd:userstack ");
      if (is_arena || (first >= 0 && files[i].number == first - 1)) first = files[i].number;
    }
    return first;
  }

  void AddStack(int number, const StackSocket& socket, const std::vector<StackSocket>& listeners) {
    Row row{number, socket.kind, socket.state, "", "", true, "made while a stack is configured"};
    if (socket.kind == "epoll") {
      row.why = "it watches sockets of the stack";
      rows_.push_back(row);
      return;
    }
    row.local = EndText(socket.local);
    if (socket.has_peer) row.peer = EndText(socket.peer);
    const bool accepted = std::any_of(listeners.begin(), listeners.end(), [&](const auto& l) {
      return !socket.listening && socket.kind == "tcp" && l.local.port == socket.local.port;
    });
    const std::string rule = socket.has_peer ? configuration_.RuleFor(socket.peer.address) : "";
    if (accepted) row.why = "accepted from a listener of the stack";
    if (!accepted && !rule.empty()) {
      row.why =
          "USERSTACK_KERNEL (" + rule + ") names the peer, but a socket of the stack serves it";
    }
    if (socket.kind == "udp" && !socket.has_peer && socket.local.address.is_unspecified() &&
        !socket.carried) {
      row.why =
          "undecided: its first datagram to a destination of USERSTACK_KERNEL makes it the "
          "kernel's";
    }
    rows_.push_back(row);
  }

  void AddKernel(int number, const KernelSocket& socket) {
    Row row{number, socket.kind, socket.state, EndText(socket.local), "", false, WhyKernel(socket)};
    if (socket.peer.port != 0) row.peer = EndText(socket.peer);
    rows_.push_back(row);
  }

  std::string WhyKernel(const KernelSocket& socket) const {
    if (!loaded_) return "libuserstack.so is not loaded";
    if (!configuration_.usable) return configuration_.why;
    for (const Endpoint* end : {&socket.peer, &socket.local}) {
      const std::string rule = configuration_.RuleFor(end->address);
      if (!rule.empty()) {
        return std::string("USERSTACK_KERNEL leaves ") + rule + " to the kernel";
      }
    }
    return std::string(
               "not hooked: open before the library was loaded, taken from another process, ") +
           (configuration_.config.rewrite
                ? "or made by code that was not rewritten"
                : "or made past libc's symbols (USERSTACK_REWRITE is off)");
  }

  const ProcessFiles& process_;
  const Configuration configuration_;
  const bool loaded_;
  StackView view_;
  StackView::Found found_ = StackView::Found::kNone;
  std::string view_why_;
  std::vector<Row> rows_;
};

void PrintTable(const ProcessFiles& process, const Explanation& explanation) {
  printf("%s\n", Printable("process " + std::to_string(process.pid()) + " (" + process.name() +
                           "): " + explanation.Summary())
                     .c_str());
  if (explanation.rows().empty()) {
    printf("it has no sockets\n");
    return;
  }
  const std::vector<std::string> names = {"FD", "KIND", "STATE", "LOCAL", "PEER", "OWNER", "WHY"};
  std::vector<std::vector<std::string>> lines = {names};
  for (const Row& row : explanation.rows()) {
    lines.push_back({std::to_string(row.descriptor), row.kind, row.state, row.local, row.peer,
                     row.on_stack ? "stack" : "kernel", row.why});
  }
  std::vector<size_t> widths(names.size());
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  for (const auto& line : lines) {
    for (size_t i = 0; i + 1 < line.size(); ++i) {
      printf("%-*s  ", static_cast<int>(widths[i]), line[i].empty() ? "-" : line[i].c_str());
    }
    printf("%s\n", Printable(line.back()).c_str());
  }
}

void PrintJson(const ProcessFiles& process, const Explanation& explanation) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Row& row : explanation.rows()) {
    rows.push_back({{"fd", row.descriptor},
                    {"kind", row.kind},
                    {"state", row.state},
                    {"local", row.local},
                    {"peer", row.peer},
                    {"owner", row.on_stack ? "stack" : "kernel"},
                    {"why", row.why}});
  }
  const nlohmann::json all = {{"schema", kSchema},
                              {"pid", process.pid()},
                              {"name", Printable(process.name())},
                              {"attached", explanation.attached()},
                              {"summary", Printable(explanation.Summary())},
                              {"descriptors", rows}};
  // Whatever is no UTF-8 in a name is replaced: it is somebody else's text.
  printf("%s\n", all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

int Explain(pid_t pid, bool json) {
  ProcessFiles process;
  std::string why;
  if (!process.Open(pid, &why)) return Fail(kToolFailed, why);
  Explanation explanation(process);
  explanation.Look();
  if (process.HasEnded()) {
    return Fail(kToolFailed, "process " + std::to_string(pid) + " has ended meanwhile");
  }
  json ? PrintJson(process, explanation) : PrintTable(process, explanation);
  return 0;
}

}  // namespace

void AddExplain(CLI::App& app, int* status) {
  struct Options {
    pid_t pid = 0;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* const command =
      app.add_subcommand("explain",
                         "Says of each socket of a process whether it is the stack's or "
                         "the kernel's, and why.");
  command->add_option("PID", options->pid, "the process")
      ->required()
      ->check(CLI::Range(1, kLargestPid));
  command->add_flag("--json", options->json, "for programs to read");
  command->callback([options, status] { *status = Explain(options->pid, options->json); });
}

}  // namespace userstack::tool
