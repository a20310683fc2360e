// RunTool: see run_tool.h. Files, not pipes, so that no output can block the tool.
#include "run_tool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace userstack::tool {
namespace {

std::string Contents(FILE* file) {
  std::string text;
  char part[4096];
  rewind(file);
  for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;) text.append(part, got);
  fclose(file);
  return text;
}

}  // namespace

Outcome RunTool(const std::vector<std::string>& arguments,
                const std::vector<std::string>& environment) {
  FILE* const out = tmpfile();
  FILE* const error = tmpfile();
  std::vector<char*> argv = {strdup(USERSTACK_TOOL)};
  for (const std::string& argument : arguments) argv.push_back(strdup(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(fileno(out), STDOUT_FILENO);
    dup2(fileno(error), STDERR_FILENO);
    for (const std::string& assignment : environment) putenv(strdup(assignment.c_str()));
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  for (char* argument : argv) free(argument);
  Outcome outcome;
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = Contents(out);
  outcome.error = Contents(error);
  return outcome;
}

size_t LinesIn(const std::string& text) {
  return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace userstack::tool
