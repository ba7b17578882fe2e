#include "cli/describe.h"

#include <vector>

#include "base/error.h"

namespace attar::cli {
namespace {

std::vector<const CLI::App*> commands(const CLI::App& app) { return app.get_subcommands([](const CLI::App*) { return true; }); }

std::vector<const CLI::Option*> named_options(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return !option->get_lnames().empty(); });
}

std::vector<const CLI::Option*> positionals(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string roff(const std::string& text) {
  std::string escaped;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' || text[i] == '-') escaped += '\\';
    if ((i == 0 || text[i - 1] == '\n') && (text[i] == '.' || text[i] == '\'')) escaped += "\\&";
    escaped += text[i];
  }
  return escaped;
}

// Text inside single quotes of a shell.
std::string shell_quoted(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result;
}

std::string option_words(const CLI::App& app) {
  std::string words;
  for (const auto* option : named_options(app)) words += " --" + option->get_lnames().front();
  return words;
}

std::string command_words(const CLI::App& app) {
  std::string words;
  for (const auto* command : commands(app)) words += (words.empty() ? "" : " ") + command->get_name();
  return words;
}

}  // namespace

std::string man_page(const CLI::App& app) {
  std::string page = cat(".TH ATTAR 1 \"\" \"attar ", ATTAR_VERSION, "\" \"User Commands\"\n.SH NAME\nattar \\- ",
                         roff(app.get_description()), "\n.SH SYNOPSIS\n.B attar\n.I command\n[options]\n.SH COMMANDS\n");
  for (const auto* command : commands(app)) {
    page += ".SS attar " + roff(command->get_name());
    for (const auto* positional : positionals(*command)) page += " " + roff(positional->get_name(true, false));
    page += "\n" + roff(command->get_description()) + "\n";
    for (const auto* option : named_options(*command)) {
      page += ".TP\n.B " + roff(option->get_name(false, true)) + "\n";
      page += roff(option->get_description());
      if (const auto value = option->get_default_str(); !value.empty()) page += roff(" [" + value + "]");
      page += "\n";
    }
  }
  return page +
         ".SH EXIT STATUS\n0: done, or every gate passed. 1: a quality gate failed. 2: bad usage, input or environment, "
         "or a gate that cannot decide. 130: interrupted.\n.SH ENVIRONMENT\n.TP\n.B ATTAR_DATA\nFolder of the built\\-in "
         "teacher, if it is not where it was installed.\n";
}

std::string bash_completion(const CLI::App& app) {
  std::string script = "_attar() {\n  local word=${COMP_WORDS[COMP_CWORD]}\n  if ((COMP_CWORD == 1)); then\n"
                       "    COMPREPLY=($(compgen -W '" + command_words(app) + "' -- \"$word\"))\n    return\n  fi\n"
                       "  case ${COMP_WORDS[1]} in\n";
  for (const auto* command : commands(app))
    script += "    " + command->get_name() + ") options='" + option_words(*command) + "' ;;\n";
  return script + "    *) options= ;;\n  esac\n  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
                  "  else COMPREPLY=($(compgen -f -- \"$word\")); fi\n}\ncomplete -o filenames -F _attar attar\n";
}

std::string zsh_completion(const CLI::App& app) {
  std::string script = "#compdef attar\n_attar() {\n  if ((CURRENT == 2)); then\n    local -a commands=(\n";
  for (const auto* command : commands(app))
    script += "      '" + shell_quoted(command->get_name() + ":" + command->get_description()) + "'\n";
  script += "    )\n    _describe command commands\n    return\n  fi\n  case ${words[2]} in\n";
  for (const auto* command : commands(app)) {
    script += "    " + command->get_name() + ") _arguments";
    for (const auto* option : named_options(*command)) {
      std::string help;
      for (const char c : option->get_description())
        if (c != '[' && c != ']' && c != ':') help += c;
      script += " '--" + option->get_lnames().front() + "[" + shell_quoted(help) + "]" + (takes_value(*option) ? ":value:_files" : "") + "'";
    }
    script += " '*:file:_files' ;;\n";
  }
  return script + "  esac\n}\n_attar \"$@\"\n";
}

std::string fish_completion(const CLI::App& app) {
  std::string script;
  for (const auto* command : commands(app)) {
    script += "complete -c attar -n __fish_use_subcommand -a " + command->get_name() + " -d '" + shell_quoted(command->get_description()) + "'\n";
    for (const auto* option : named_options(*command))
      script += "complete -c attar -n '__fish_seen_subcommand_from " + command->get_name() + "' -l " + option->get_lnames().front() +
                (takes_value(*option) ? " -r" : "") + " -d '" + shell_quoted(option->get_description()) + "'\n";
  }
  return script;
}

}  // namespace attar::cli
