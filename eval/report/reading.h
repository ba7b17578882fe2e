// What the readers of result files share.
#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string_view>

#include "convert/json.h"
#include "eval/report/results.h"

namespace attar {

inline constexpr double kAny = std::numeric_limits<double>::infinity();

std::optional<double> number_in(const JsonReader& from, std::string_view key);  // absent: nothing
// A list of objects, read one by one; absent: none.
void for_each_in(const JsonReader& from, std::string_view key, const std::function<void(const JsonReader&)>& take);

ReportedProtocol read_reported_protocol(const JsonReader& from);
// How a result was made, by its own words.
Origin read_origin(const JsonReader& from);

}  // namespace attar
