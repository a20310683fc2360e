// userstack: the command-line tool. This file knows which subcommands there are, and nothing else.
#include <cstdio>
#include <string>

#include "shim/tool/command.h"
#include "shim/tool/doctor.h"
#include "shim/tool/explain.h"
#include "shim/tool/run.h"

using userstack::tool::Fail;
using userstack::tool::kToolFailed;

namespace {

// CLI11 explains at length; the first line is what was wrong.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Programs on a TCP/IP stack of their own.", "userstack");
  app.set_version_flag("--version", USERSTACK_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Statuses: 123 a command may not be on the stack, 125 the tool failed, 126 a command cannot "
      "be run, 127 it was not found.");

  int status = 0;
  userstack::tool::AddDoctor(app, &status);
  userstack::tool::AddExplain(app, &status);
  userstack::tool::AddRun(app, &status);
  const std::string first = argc > 1 ? argv[1] : "-";
  const auto is_first = [&first](const CLI::App* command) { return command->check_name(first); };
  if (first[0] != '-' && app.get_subcommands(is_first).empty()) {
    return Fail(kToolFailed, "unknown command: " + first + " (userstack --help lists them)");
  }
  const std::string unknown = userstack::tool::DropSeparator(&argc, argv);
  if (!unknown.empty()) {
    return Fail(kToolFailed,
                "run: unknown option: " + unknown + " (userstack run --help lists them)");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::Error& error) {
    return Fail(kToolFailed, FirstLine(error.what()) + " (userstack --help says more)");
  }
  return status;
}
