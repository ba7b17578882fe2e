#include "eval/report/markup.h"

#include <array>
#include <cassert>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace attar {
namespace {

constexpr std::array<std::string_view, 3> kVoid = {"meta", "br", "input"};  // HTML has no end tag for these

void append_code_point(std::string& out, unsigned code) {  // 0x800 .. 0xffff
  out += static_cast<char>(0xe0 | code >> 12);
  out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
  out += static_cast<char>(0x80 | (code & 0x3f));
}

constexpr unsigned kControlPictures = 0x2400, kReplacement = 0xfffd;

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t valid = find_invalid_utf8(text).value_or(text.size());
    for (std::size_t i = 0; i < valid; ++i) {
      const char c = text[i];
      const auto byte = static_cast<unsigned char>(c);
      switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\'': out += "&#39;"; break;
        case '\n': case '\t': out += c; break;
        default:
          if (byte < 0x20) append_code_point(out, kControlPictures + byte);
          else if (byte == 0x7f) append_code_point(out, kControlPictures + 0x21);
          else if (text.substr(i, 3) == "\xef\xbf\xbe" || text.substr(i, 3) == "\xef\xbf\xbf") append_code_point(out, kReplacement), i += 2;
          else out += c;
      }
    }
    text.remove_prefix(valid);
    if (text.empty()) break;
    append_code_point(out, kReplacement);
    text.remove_prefix(1);
  }
  return out;
}

std::string coordinate(double value) {
  assert(std::isfinite(value));
  char text[64];
  std::snprintf(text, sizeof text, "%.2f", value);
  std::string result = text;
  while (result.back() == '0') result.pop_back();
  if (result.back() == '.') result.pop_back();
  return result == "-0" ? "0" : result;
}

Element& Element::add(const Element& child) {
  content_ += child.html();
  return *this;
}

Element& Element::add(const std::vector<Element>& children) {
  for (const Element& child : children) add(child);
  return *this;
}

Element& Element::add(std::string_view text) {
  content_ += escaped(text);
  return *this;
}

Element& Element::add_style(std::string_view css) {
  assert(css.find_first_of("<&>") == std::string_view::npos);
  content_ += css;
  return *this;
}

std::string Element::html() const {
  std::string out = "<" + tag_;
  for (const Attribute& attribute : attributes_) out += " " + attribute.name + "=\"" + escaped(attribute.value) + "\"";
  for (const std::string_view tag : kVoid)
    if (tag == tag_) return out + "/>";
  return out + ">" + content_ + "</" + tag_ + ">";
}

}  // namespace attar
