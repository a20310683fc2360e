// Config: the TOML file. Exceptions are off (toml++ then returns a result). The only part of the
// configuration that uses the heap; it runs only when a file is named.
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_HEADER_ONLY 1

#include <toml++/toml.h>

#include <cctype>
#include <cstdio>
#include <string>

#include "shim/config.h"

namespace userstack::shim {
namespace {

// The value as the environment would spell it; false for kinds that no setting has.
bool Spell(const toml::node& node, std::string* out) {
  if (const auto* text = node.as_string()) {
    *out = text->get();
    return true;
  }
  if (const auto* number = node.as_integer()) {
    *out = std::to_string(number->get());
    return true;
  }
  const auto* array = node.as_array();
  if (array == nullptr) return false;
  for (const toml::node& element : *array) {
    const auto* text = element.as_string();
    if (text == nullptr) return false;
    if (!out->empty()) *out += ',';
    *out += text->get();
  }
  return true;
}

bool FindSetting(std::string_view key, Setting* setting) {
  for (unsigned i = 0; i < static_cast<unsigned>(Setting::kCount); ++i) {
    const auto candidate = static_cast<Setting>(i);
    if (candidate == Setting::kConfig) continue;  // a file does not name another one
    std::string name = SettingName(candidate);
    for (char& c : name) c = static_cast<char>(tolower(c));
    if (name != key) continue;
    *setting = candidate;
    return true;
  }
  return false;
}

bool ApplyKey(const char* file, const toml::key& key, const toml::node& node, Config* config,
              ConfigError* error) {
  const std::string name(key.str());
  const auto line = static_cast<unsigned>(key.source().begin.line);
  Setting setting;
  if (!FindSetting(name, &setting)) {
    snprintf(error->text, sizeof(error->text),
             "USERSTACK_CONFIG=%.200s: line %u: unknown key %.60s; known are the variables' names "
             "in lower case without USERSTACK_: dev addr gateway mtu mac cc spin_us resolv_conf "
             "kernel log log_file capture memory",
             file, line, name.c_str());
    return false;
  }
  std::string value;
  if (!Spell(node, &value)) {
    snprintf(error->text, sizeof(error->text),
             "USERSTACK_CONFIG=%.200s: line %u: %s must be a string, an integer or an array of "
             "strings",
             file, line, name.c_str());
    return false;
  }
  if (config->Has(setting) || value.empty()) return true;  // the environment wins
  char origin[300];
  snprintf(origin, sizeof(origin), "USERSTACK_CONFIG=%.200s: line %u: %s", file, line,
           name.c_str());
  return ParseSetting(setting, origin, value.c_str(), config, error);
}

// toml++ 3.3 has undefined behaviour on some characters (U+00A1 to U+0499) where it does not expect
// them: is_non_ascii_horizontal_whitespace. So it is shown ASCII only: characters beyond become '?'
// in lines of comment; elsewhere they are an error (a string may spell them \u00e9). Returns the
// line of such an error, or 0.
unsigned ReduceToAscii(std::string* text) {
  unsigned line = 1;
  bool comment = false, blank = true;  // so far in this line
  for (char& c : *text) {
    if (c == '\n') {
      ++line;
      comment = false;
      blank = true;
      continue;
    }
    if (blank && c == '#') comment = true;
    if (c != ' ' && c != '\t') blank = false;
    if (static_cast<unsigned char>(c) < 0x80) continue;
    if (!comment) return line;
    c = '?';
  }
  return 0;
}

}  // namespace

bool ParseFile(const char* name, const char* text, size_t length, Config* config,
               ConfigError* error) {
  std::string ascii(text, length);
  if (const unsigned line = ReduceToAscii(&ascii); line != 0) {
    snprintf(error->text, sizeof(error->text),
             "USERSTACK_CONFIG=%.200s: line %u: only ASCII may stand outside of comment lines "
             "(strings may spell other characters \\u00e9); accepted is a TOML file",
             name, line);
    MakePrintable(error);
    return false;
  }
  const toml::parse_result result = toml::parse(ascii);
  if (!result) {
    const std::string_view what = result.error().description();
    snprintf(error->text, sizeof(error->text),
             "USERSTACK_CONFIG=%.200s: line %u: %.*s; accepted "
             "is a TOML file",
             name, static_cast<unsigned>(result.error().source().begin.line),
             static_cast<int>(what.size() < 200 ? what.size() : 200), what.data());
    MakePrintable(error);
    return false;
  }
  for (const auto& [key, node] : result.table()) {
    if (ApplyKey(name, key, node, config, error)) continue;
    MakePrintable(error);
    return false;
  }
  return true;
}

}  // namespace userstack::shim
