// Doctor: see doctor.h. It puts together what the file is (inspection.h) and what is configured
// (configuration.h). Exit status: 0 usable, 1 not; 126 and 127 as for running the command.
#include "shim/tool/doctor.h"

#include <linux/prctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "shim/rewrite/decoder.h"
#include "shim/tool/configuration.h"
#include "shim/tool/inspection.h"
#include "shim/tool/process_files.h"

namespace userstack::tool {
namespace {

constexpr int kSchema = 1;
constexpr int kNotUsable = 1;

struct Diagnosis {
  std::string kind;
  std::string mode;                   // "symbols", "rewriting", "loader", "refused"
  std::vector<std::string> problems;  // any of them: not usable
  std::vector<std::string> kernel;    // what would be the kernel's all the same
  std::vector<std::string> notes;
};

std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  return variables;
}

// Linux 5.11, and no filter that forbids it.
bool HasUserDispatch() {
  return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0) == 0;
}

bool IsFiltered() {
  return ReadWhole("/proc/self/status").find("\nSeccomp:\t2") != std::string::npos;
}

void DiagnoseRewriting(const Inspection& program, Diagnosis* out) {
  out->mode = "rewriting";
  if (access(Beside(shim::rewrite::kDecodeModule).c_str(), R_OK) != 0) {
    out->kernel.push_back(std::string(shim::rewrite::kDecodeModule) +
                          " is not beside the library: what is not in the cache is reached by "
                          "symbols only");
  }
  const bool watched = HasUserDispatch();
  for (const ObjectReport& object : program.objects) {
    const uint32_t count = object.left + object.unknown;
    if (count == 0) continue;
    const std::string what =
        std::to_string(count) + " calls of " + object.path + " cannot be rewritten beforehand";
    if (watched) {
      out->notes.push_back(what +
                           ": they are watched (Syscall User Dispatch), every other call of "
                           "the program costs 40 ns more");
    } else {
      (object.is_go ? out->problems : out->kernel)
          .push_back(what +
                     ", and this kernel has no "
                     "Syscall User Dispatch");
    }
  }
}

void DiagnoseSymbols(const Inspection& program, Diagnosis* out) {
  out->mode = "symbols";
  for (const ObjectReport& object : program.objects) {
    if (object.sites == 0 || object.is_libc) continue;
    const std::string what = std::to_string(object.sites) + " system calls of " + object.path +
                             " go past libc (USERSTACK_REWRITE=on reaches them)";
    (object.is_go ? out->problems : out->kernel).push_back(what);
  }
  if (!HasUserDispatch()) {
    out->problems.push_back(
        "names cannot be resolved on the stack: the kernel has no Syscall User "
        "Dispatch (USERSTACK_REWRITE=on does without)");
  }
}

void DiagnoseProgram(const Inspection& program, bool rewrite, bool has_loader, Diagnosis* out) {
  switch (program.kind) {
    case ProgramKind::kDynamic:
      out->kind = program.is_go ? "Go program, dynamic" : "dynamic program";
      rewrite ? DiagnoseRewriting(program, out) : DiagnoseSymbols(program, out);
      break;
    case ProgramKind::kStatic:
      out->kind = program.is_go ? "Go program, static" : "static program";
      out->mode = has_loader ? "loader" : "refused";
      if (has_loader) {
        out->notes.push_back("LD_PRELOAD does not reach it: run it by userstack run");
      } else {
        out->problems.push_back("LD_PRELOAD does not reach a static program");
      }
      break;
    case ProgramKind::kOtherLibc:
      out->kind = "dynamic program of another libc";
      out->problems.push_back("its loader is " + program.loader + "; the library is for glibc");
      break;
    case ProgramKind::kForeign:
      out->kind = "program for " + program.machine;
      out->problems.push_back("the library is for x86-64 of 64 bits");
      break;
    case ProgramKind::kUnknown:
      out->kind = "unknown";
      out->problems.push_back(program.path + " is no ELF program and no script");
      break;
  }
  if (program.raises_privilege) {
    out->problems.push_back(program.privilege + ": the dynamic loader ignores LD_PRELOAD");
  }
  for (const std::string& name : program.missing) {
    out->problems.push_back("the library " + name + " is not found: the program does not start");
  }
  for (const ObjectReport& object : program.objects) {
    if (object.has_io_uring) {
      out->notes.push_back(object.path +
                           " uses io_uring: io_uring_setup fails with ENOSYS, and "
                           "programs fall back to epoll");
    }
  }
  if (program.filters_itself) {
    out->notes.push_back(
        "it links libseccomp: a filter of its own that does not know the calls of "
        "the library may end it");
  }
  if (out->mode.empty() || program.raises_privilege) out->mode = "refused";
}

void DiagnoseConfiguration(const Configuration& configuration, Diagnosis* out) {
  const std::string library = Beside("libuserstack.so");
  if (access(library.c_str(), R_OK) != 0) out->problems.push_back(library + " is not there");
  if (IsFiltered()) out->notes.push_back("this session runs under a seccomp filter");
  if (!configuration.usable) {
    out->problems.push_back(configuration.why);
    return;
  }
  for (const Finding& finding : CheckDevice(configuration.config)) {
    (finding.fatal ? out->problems : out->notes).push_back(finding.text);
  }
}

std::string Sentence(const ObjectReport& object) {
  return object.path + ": " + std::to_string(object.hits) +
         " times 0f 05: " + std::to_string(object.sites) + " sites, " +
         std::to_string(object.irrelevant) + " irrelevant, " + std::to_string(object.unproved) +
         " no system call as far as is known";
}

void PrintText(const Inspection& program, const Diagnosis& diagnosis) {
  const auto say = [](const std::string& what, const std::string& text) {
    printf("%-14s %s\n", what.c_str(), Printable(text).c_str());
  };
  for (const std::string& script : program.scripts) say("script:", script);
  say("program:", program.path);
  say("kind:", diagnosis.kind);
  say("mode:", diagnosis.mode);
  for (const ObjectReport& object : program.objects) {
    if (object.hits != 0) say("calls:", Sentence(object));
  }
  for (const std::string& text : diagnosis.kernel) say("to the kernel:", text);
  for (const std::string& text : diagnosis.notes) say("note:", text);
  for (const std::string& text : diagnosis.problems) say("problem:", text);
  say("verdict:", diagnosis.problems.empty() ? "usable" : "not usable");
}

void PrintJson(const Inspection& program, const Diagnosis& diagnosis) {
  nlohmann::json objects = nlohmann::json::array();
  for (const ObjectReport& object : program.objects) {
    objects.push_back({{"path", object.path},
                       {"go", object.is_go},
                       {"hits", object.hits},
                       {"sites", object.sites},
                       {"left", object.left},
                       {"irrelevant", object.irrelevant},
                       {"unproved", object.unproved},
                       {"unknown", object.unknown},
                       {"io_uring", object.has_io_uring}});
  }
  const nlohmann::json all = {{"schema", kSchema},
                              {"scripts", program.scripts},
                              {"program", program.path},
                              {"kind", diagnosis.kind},
                              {"mode", diagnosis.mode},
                              {"usable", diagnosis.problems.empty()},
                              {"problems", diagnosis.problems},
                              {"kernel", diagnosis.kernel},
                              {"notes", diagnosis.notes},
                              {"objects", objects}};
  printf("%s\n", all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

int Examine(const std::string& command, bool json, bool has_loader) {
  Inspection program;
  std::string why;
  const int status = Inspect(command, &program, &why);
  if (status != 0) return Fail(status, why);
  const Configuration configuration(OwnEnvironment());
  Diagnosis diagnosis;
  DiagnoseProgram(program, configuration.config.rewrite, has_loader, &diagnosis);
  DiagnoseConfiguration(configuration, &diagnosis);
  json ? PrintJson(program, diagnosis) : PrintText(program, diagnosis);
  return diagnosis.problems.empty() ? 0 : kNotUsable;
}

}  // namespace

void AddDoctor(CLI::App& app, int* status) {
  struct Options {
    std::vector<std::string> command;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* const command = app.add_subcommand(
      "doctor", "Says what would happen to a command on the stack, before it runs.");
  command->add_flag("--json", options->json, "for programs to read");
  command->add_option("COMMAND", options->command, "the command, and its arguments")->required();
  command->prefix_command();
  command->footer("Statuses: 0 usable, 1 not usable, 126 it cannot be run, 127 it was not found.");
  command->callback([options, status, &app] {
    const auto is_run = [](const CLI::App* other) { return other->check_name("run"); };
    const bool has_loader = !app.get_subcommands(is_run).empty();
    *status = Examine(options->command[0], options->json, has_loader);
  });
}

}  // namespace userstack::tool
