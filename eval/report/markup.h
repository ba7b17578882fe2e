// A page as a tree of elements, so that escaping happens in one place. What is written is HTML5 and well-formed XML alike.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attar {

// UTF-8 as it may stand in a page: < > & " ' become entities; control characters, which XML forbids, their visible forms (␛); bytes
// that are no UTF-8 the replacement character.
std::string escaped(std::string_view text);

// A coordinate: at most two decimals.
std::string coordinate(double value);

class Element {
 public:
  struct Attribute {
    Attribute(std::string_view key, std::string_view text) : name(key), value(text) {}
    Attribute(std::string_view key, const char* text) : name(key), value(text) {}
    Attribute(std::string_view key, double number) : name(key), value(coordinate(number)) {}
    std::string name, value;
  };

  template <class... Children>
  explicit Element(std::string_view tag, std::vector<Attribute> attributes = {}, const Children&... children)
      : tag_(tag), attributes_(std::move(attributes)) {
    (add(children), ...);
  }

  Element& add(const Element& child);
  Element& add(const std::vector<Element>& children);
  Element& add(std::string_view text);  // is escaped
  // What goes inside <style> as it is: neither < nor & nor > may be in it, which HTML and XML would read differently.
  Element& add_style(std::string_view css);
  void set(std::string_view name, std::string_view value) { attributes_.emplace_back(name, value); }

  std::string html() const;

 private:
  std::string tag_;
  std::vector<Attribute> attributes_;
  std::string content_;
};

}  // namespace attar
