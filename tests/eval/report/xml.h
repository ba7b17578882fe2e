// A strict reader of XML, for tests: what it takes, every browser takes.
#pragma once

#include <cctype>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace attar::test {

struct XmlElement {
  std::string name, text;  // text: of this element and those within
  std::map<std::string, std::string> attributes;
};

// Every element of the document, in the order of their start tags. Throws std::runtime_error for what is not well-formed.
class XmlReader {
 public:
  explicit XmlReader(std::string_view text) : text_(text) {
    if (take("<!DOCTYPE html>\n"))
      element();
    else
      element();
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    if (at_ != text_.size()) stop("something follows the root");
  }
  std::vector<XmlElement> elements;

 private:
  [[noreturn]] void stop(const std::string& why) const {
    throw std::runtime_error(why + " at byte " + std::to_string(at_) + ": " + std::string(text_.substr(at_, 60)));
  }
  bool take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  void need(std::string_view what) {
    if (!take(what)) stop("expected " + std::string(what));
  }
  std::string name() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '-')) ++at_;
    if (at_ == begin) stop("expected a name");
    return std::string(text_.substr(begin, at_ - begin));
  }
  char reference() {
    for (const auto& [entity, c] : {std::pair{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}})
      if (take(entity)) return c;
    stop("unknown entity");
  }
  void character(std::string& out) {
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '&') {
      out += reference();
      return;
    }
    if (c < 0x20 && c != '\n' && c != '\t') stop("a control character");
    out += text_[at_++];
  }
  std::string element() {
    need("<");
    const std::size_t index = elements.size();
    elements.push_back({name(), "", {}});
    while (take(" ")) {
      const std::string key = name();
      need("=\"");
      std::string value;
      while (at_ < text_.size() && text_[at_] != '"') {
        if (text_[at_] == '<') stop("< in an attribute");
        character(value);
      }
      need("\"");
      if (!elements[index].attributes.emplace(key, value).second) stop("attribute twice");
    }
    if (take("/>")) return "";
    need(">");
    std::string inside;
    while (!text_.substr(at_).starts_with("</")) {
      if (at_ >= text_.size()) stop("unclosed " + elements[index].name);
      if (text_[at_] == '<') inside += element();
      else if (text_[at_] == '>') stop("a bare >");
      else character(inside);
    }
    need("</" + elements[index].name + ">");
    return elements[index].text = inside;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace attar::test
