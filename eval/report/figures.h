// Which plots the results are worth.
#pragma once

#include <vector>

#include "eval/report/digest.h"
#include "eval/report/plot.h"

namespace attar {

// Quality against size, and against speed where speeds of two models are known; none for a single model. Models that no other beats
// in both are joined by a line.
std::vector<Plot> trade_offs(const Report& report, const Group& group);

// How large the divergence is at which share of the positions; none without percentiles.
std::optional<Plot> divergence_plot(const Report& report, const Group& group);

// The mean of the divergence, or without references of -ln p, by place in the context; none without bands.
std::optional<Plot> place_plot(const Report& report, const Group& group);

// Losses and learning rate over the steps. id: begins the plots' ids.
std::vector<Plot> training_plots(const TrainingLog& log, const std::string& id);
Table training_table(const TrainingLog& log);

Plot size_plot(const SizeCurve& curve, const std::string& id);
Table size_table(const SizeCurve& curve);

}  // namespace attar
