// The tool's front: help, and one line for what it does not know.
#include <gtest/gtest.h>

#include "run_tool.h"

namespace userstack::tool {
namespace {

TEST(Tool, PrintsItsHelp) {
  const Outcome help = RunTool({"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.out.find("userstack"), std::string::npos);
  EXPECT_EQ(help.error, "");
}

TEST(Tool, PrintsItsVersion) {
  const Outcome version = RunTool({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_EQ(LinesIn(version.out), 1u);
}

TEST(Tool, RefusesAnUnknownCommandWithOneLine) {
  const Outcome unknown = RunTool({"fly", "me"});
  EXPECT_EQ(unknown.status, 125);
  EXPECT_EQ(unknown.out, "");
  EXPECT_EQ(LinesIn(unknown.error), 1u);
  EXPECT_NE(unknown.error.find("unknown command: fly"), std::string::npos) << unknown.error;
}

TEST(Tool, AsksForACommandWithOneLine) {
  const Outcome none = RunTool({});
  EXPECT_EQ(none.status, 125);
  EXPECT_EQ(none.out, "");
  EXPECT_EQ(LinesIn(none.error), 1u);
}

TEST(Tool, KeepsWhatItWasGivenOnOneLine) {
  const Outcome strange = RunTool({"fly\nme\033[1m"});
  EXPECT_EQ(strange.status, 125);
  EXPECT_EQ(LinesIn(strange.error), 1u);
  EXPECT_EQ(strange.error.find('\033'), std::string::npos);
}

}  // namespace
}  // namespace userstack::tool
