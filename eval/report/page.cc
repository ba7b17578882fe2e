#include "eval/report/page.h"

#include "base/error.h"
#include "eval/report/digest.h"
#include "eval/report/evidence.h"
#include "eval/report/figures.h"
#include "eval/report/heat_map.h"
#include "eval/report/tensor_table.h"

namespace attar {
namespace {

Element section(const std::string& title, const std::string& note = "") {
  Element whole("section", {}, Element("h2", {}, title));
  if (!note.empty()) whole.add(Element("p", {{"class", "note"}}, note));
  return whole;
}

Element folded(const std::string& summary, const Element& content) { return Element("details", {}, Element("summary", {}, summary), content); }

Element plots(const std::vector<Plot>& all) {
  Element grid("div", {{"class", "plots"}});
  for (const Plot& plot : all) grid.add(draw(plot));
  return grid;
}

// Words from a model: whatever writing direction they switch to ends with them.
Element isolated(const std::string& words) { return Element("bdi", {}, words); }

std::string quoted(const std::string& words) { return cat("“", words, "”"); }

Element verdict(const Report& report) {
  const Verdict found = judge(report);
  Element whole("section", {{"class", "verdict " + found.outcome}}, Element("p", {{"class", "sentence"}}, found.sentence));
  if (!found.reasons.empty()) {
    Element list("ul");
    for (const std::string& reason : found.reasons) list.add(Element("li", {{"class", "fail"}}, reason));
    whole.add(list);
  }
  std::string facts;
  for (const std::string& fact : plain_facts(report)) facts += (facts.empty() ? "" : " ") + fact;
  if (!facts.empty()) whole.add(Element("p", {{"class", "facts"}}, facts));
  return whole;
}

Element models(const Report& report, const std::vector<Group>& groups) {
  Element whole = section("Models");
  if (groups.size() > 1)
    whole.add(Element("p", {{"class", "note"}}, "The files were measured under protocols that differ. Figures of different tables here cannot be compared."));
  if (groups.empty()) return whole.add(html(model_table(report, {}, true)));
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Group& group = groups[i];
    Table table = model_table(report, group, i == 0);
    table.caption = cat("Measured on ", describe(group), group.reference.empty() ? "" : cat("; divergence from ", report.model(group.reference).name), ".");
    whole.add(html(table));
    if (const auto trade = trade_offs(report, group); !trade.empty() && i == 0) whole.add(plots(trade));
  }
  return whole;
}

Element quality(const Report& report, const std::vector<Group>& groups) {
  Element whole = section("Quality in detail");
  for (std::size_t i = 0; i < groups.size(); ++i) {
    std::vector<Plot> found;
    for (std::optional<Plot> plot : {divergence_plot(report, groups[i]), place_plot(report, groups[i])}) {
      if (!plot) continue;
      if (i > 0) plot->id += cat("-", i + 1), plot->title += cat(" (", describe(groups[i]), ")");
      found.push_back(std::move(*plot));
    }
    if (!found.empty()) whole.add(plots(found));
    if (Table sure = confidence_table(report, groups[i], true); !sure.rows.empty()) {
      sure.caption = kHowSure;
      whole.add(html(sure));
    }
    const std::string where = cat(", measured on ", describe(groups[i]));
    whole.add(folded("Every figure" + where, html(metric_table(report, groups[i]))));
    if (const Table sure = confidence_table(report, groups[i], false); !sure.rows.empty()) whole.add(folded("How sure every figure is" + where, html(sure)));
    if (const Table places = place_table(report, groups[i]); !places.rows.empty()) whole.add(folded("By place in the context" + where, html(places)));
    for (const ReportedEvaluation* one : groups[i].evaluations)
      if (const Table units = unit_table(*one); !units.rows.empty())
        whole.add(folded(cat("The worst of ", one->by_unit.size(), " chunks or documents, ", label_of(report.model(one->model))), html(units)));
  }
  return whole;
}

Element layers(const Report& report, const TensorTable& table, const std::string& id) {
  Element whole("div", {}, Element("h3", {}, report.model(table.model).name), Element("p", {{"class", "note"}}, meaning_of(table)));
  Element choice("div", {{"class", "switch"}});
  std::vector<Element> panes;
  for (const HeatMeasure& measure : measures_of(table)) {
    const std::string own = id + "-" + measure.id;
    Element input("input", {{"type", "radio"}, {"name", id}, {"id", own + "-on"}});
    if (panes.empty()) input.set("checked", "checked");
    choice.add(input).add(Element("label", {{"for", own + "-on"}}, measure.name));
    panes.push_back(Element("div", {{"class", "pane"}}, Element("div", {{"class", "wide"}, {"tabindex", "0"}}, draw_heat_map(table, measure, own))));
  }
  return whole.add(choice.add(panes)).add(folded("Every tensor", html(tensor_table(table))));
}

Element worst_tokens(const Report& report) {
  Element whole = section("Worst tokens in context", "Where the model found least probable what really came, or moved furthest from the reference.");
  for (const ReportedEvaluation& one : report.evaluations) {
    if (one.worst_tokens.empty()) continue;
    Element list("ol", {{"class", "tokens"}});
    for (const ReportedToken& token : one.worst_tokens) {
      Element figures("span", {{"class", "figures"}});
      if (!token.top.empty()) figures.add("most probable ").add(isolated(quoted(token.top)));
      if (!token.reference_top.empty()) figures.add(", to the reference ").add(isolated(quoted(token.reference_top)));
      for (const auto& [name, value] : token.figures) figures.add(cat(" · ", name == "p" ? "p" : name == "reference_p" ? "p of the reference" : "KL", " ")).add(figure(value));
      list.add(Element("li", {}, isolated(token.before), Element("mark", {}, isolated(token.token)), isolated(token.after), figures));
    }
    whole.add(Element("h3", {}, report.model(one.model).name)).add(list);
  }
  return whole;
}

Element samples(const Report& report) {
  Element whole = section("Samples", "What each model writes on from the same words, with the same seed.");
  for (const ReportedSample& sample : report.samples) {
    Element row("div", {{"class", "samples"}});
    for (const auto& [who, words] : sample.answers)
      row.add(Element("div", {{"class", "sample"}}, Element("h4", {}, who), Element("p", {}, Element("span", {{"class", "prompt"}}, isolated(sample.prompt)), isolated(words))));
    whole.add(Element("p", {{"class", "how"}}, sample.how)).add(row);
  }
  return whole;
}

Element origins(const Report& report) {
  Element whole = section("How it was made", "The files behind this page, and what they say of their making. Models of equal hashes are equal.");
  for (const Origin& origin : report.origins) {
    Element facts("dl");
    facts.add(Element("dt", {}, "written by")).add(Element("dd", {}, cat("attar ", origin.version, " ", origin.command)));
    for (const auto& [name, value] : origin.facts) facts.add(Element("dt", {}, name)).add(Element("dd", {}, value));
    whole.add(folded(origin.file, facts));
  }
  for (const TrainingLog& log : report.training) whole.add(folded(log.file, Element("p", {}, cat("The log of a training, ", log.lines.size(), " lines."))));
  return whole;
}

}  // namespace

std::string html_page(const Report& report) {
  const std::vector<Group> groups = groups_of(report);
  Element main("main", {}, Element("h1", {}, "Attar: what a compression cost"), verdict(report));
  if (!report.models.empty()) main.add(models(report, groups));
  if (!groups.empty()) main.add(quality(report, groups));
  if (!report.tensors.empty()) {
    Element whole = section("Layer by layer");
    for (std::size_t i = 0; i < report.tensors.size(); ++i) whole.add(layers(report, report.tensors[i], cat("layers-", i + 1)));
    main.add(whole);
  }
  if (!report.curves.empty()) {
    std::vector<Plot> all;
    for (std::size_t i = 0; i < report.curves.size(); ++i) all.push_back(size_plot(report.curves[i], cat("sizes-", i + 1)));
    Element whole = section("Size chosen by sensitivity").add(plots(all));
    for (const SizeCurve& curve : report.curves) whole.add(folded(cat("The figures, ", curve.file), html(size_table(curve))));
    main.add(whole);
  }
  for (std::size_t i = 0; i < report.training.size(); ++i)
    main.add(section("Training", report.training[i].file).add(plots(training_plots(report.training[i], cat("training-", i + 1)))).add(folded("The figures", html(training_table(report.training[i])))));
  bool tokens = false;
  for (const ReportedEvaluation& one : report.evaluations) tokens |= !one.worst_tokens.empty();
  if (tokens) main.add(worst_tokens(report));
  if (!report.samples.empty()) main.add(samples(report));
  main.add(origins(report));
  main.add(Element("footer", {}, "Figures in tables show their unrounded values on hovering. Made by attar report; this page loads nothing and runs no script."));

  Element head("head", {}, Element("meta", {{"charset", "utf-8"}}), Element("title", {}, "Attar report"));
  head.add(Element("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}}));
  head.add(Element("meta", {{"http-equiv", "Content-Security-Policy"}, {"content", "default-src 'none'; style-src 'unsafe-inline'"}}));
  head.add(Element("style").add_style(kPageStyle));
  return "<!DOCTYPE html>\n" + Element("html", {{"lang", "en"}}, head, Element("body", {}, main)).html() + "\n";
}

}  // namespace attar
