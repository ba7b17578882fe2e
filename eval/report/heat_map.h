// A quantized model's tensors as a map: a row per layer, a column per kind of tensor, the darker the more it costs.
#pragma once

#include "eval/report/results.h"

namespace attar {

struct HeatMeasure {
  const char* id;
  const char* name;
  std::optional<double> ReportedTensor::*value;
  Unit unit;
};

// What this table holds figures of, the most telling first.
std::vector<HeatMeasure> measures_of(const TensorTable& table);

// One map for one measure. id: unique on the page.
Element draw_heat_map(const TensorTable& table, const HeatMeasure& measure, const std::string& id);

// "model.layers.3.mlp.down_proj.weight" is in row 3, column "down_proj"; what is in no layer has row -1.
struct HeatPlace {
  long layer = -1;
  std::string kind;
};
HeatPlace heat_place(const std::string& tensor);

}  // namespace attar
