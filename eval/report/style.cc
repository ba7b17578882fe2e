// The page's look. No character here may be < or & or >: HTML and XML would read them differently.
#include "eval/report/page.h"

namespace attar {

const char* const kPageStyle = R"css(
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --card: #ffffff; --ink: #1d2024; --soft: #5d636b; --hair: #e3e3dd; --heat: #1d5c8f; --on-heat: #ffffff;
  --good: #2d7a4b; --bad: #b3402f; --open: #8a6d1f;
  --s0: #24639c; --s1: #c05e14; --s2: #38804f; --s3: #7c539b; --s4: #b2475f; --s5: #878b90;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1b1f23; --ink: #e7e8e4; --soft: #9da4ab; --hair: #30363c; --heat: #63b0ee; --on-heat: #0c1116;
    --good: #6cc08b; --bad: #ec8270; --open: #d9b65b;
    --s0: #7db6ea; --s1: #efa062; --s2: #7cc494; --s3: #c09ade; --s4: #ea8fa2; --s5: #8d949b;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
main { max-width: 70rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.05rem; font-weight: 600; margin: 0 0 1.5rem; color: var(--soft); }
h2 { font-size: 1.3rem; font-weight: 650; letter-spacing: -0.01em; margin: 3.25rem 0 0.35rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.75rem 0 0.25rem; }
p { margin: 0.35rem 0 0.9rem; max-width: 46rem; }
.note, .how { color: var(--soft); font-size: 0.9rem; }
.verdict { border-left: 4px solid var(--open); padding: 0.15rem 0 0.15rem 1.1rem; }
.verdict.pass { border-color: var(--good); }
.verdict.worse { border-color: var(--bad); }
.verdict .sentence { font-size: 1.45rem; line-height: 1.3; font-weight: 600; letter-spacing: -0.015em; margin: 0 0 0.6rem; }
.verdict ul { margin: 0 0 0.9rem; padding-left: 1.1rem; }
.verdict li.fail { color: var(--bad); }
.verdict p.facts { margin-bottom: 0; }
.wide { overflow-x: auto; margin: 0.75rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; min-width: 50%; }
th, td { padding: 0.42rem 0.75rem 0.42rem 0; text-align: left; border-bottom: 1px solid var(--hair); vertical-align: baseline; overflow-wrap: normal; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 550; min-width: 9.5rem; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; padding-left: 0.3rem; }
td.number { white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.75rem; margin: 1.25rem 0; }
.plots:has(figure:only-child) { max-width: 32rem; }
figure { margin: 0; }
figcaption { font-size: 0.95rem; font-weight: 600; margin-bottom: 0.35rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
svg text { fill: var(--soft); font-variant-numeric: tabular-nums; }
.point text { fill: var(--ink); font-size: 11.5px; font-weight: 550; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
.point line { stroke: var(--soft); stroke-width: 0.75; }
svg text.label { font-size: 11.5px; }
.axes line { stroke: var(--hair); stroke-width: 1; }
.series { color: var(--s0); }
.series.s1 { color: var(--s1); } .series.s2 { color: var(--s2); } .series.s3 { color: var(--s3); } .series.s4 { color: var(--s4); } .series.s5 { color: var(--s5); }
.series path.line { fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
.series.dashed path.line { stroke-width: 1.25; stroke-dasharray: 4 4; opacity: 0.7; }
.series .mark, .legend g { fill: currentColor; stroke: var(--paper); stroke-width: 1; }
.legend g .line { fill: none; stroke: currentColor; stroke-width: 1.75; }
.series .touch { fill: transparent; stroke: none; }
.series .mark:hover { stroke: var(--ink); stroke-width: 1.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; margin: 0.5rem 0 0; padding: 0; font-size: 0.85rem; color: var(--soft); }
.legend svg { display: inline-block; width: 26px; height: 12px; vertical-align: -1px; }
svg.heat { max-width: 46rem; font-size: 10px; }
svg.heat .head { font-size: 10.5px; }
.cell rect { fill: var(--heat); }
.cell text { fill: var(--ink); font-size: 9px; pointer-events: none; }
.cell text.value { font-size: 8.5px; opacity: 0.8; }
.cell.hot text { fill: var(--on-heat); }
.cell:hover rect { stroke: var(--ink); stroke-width: 1.5; }
.switch input { position: absolute; opacity: 0; }
.switch label { display: inline-block; padding: 0.2rem 0.7rem; margin: 0.4rem 0.3rem 0.9rem 0; border: 1px solid var(--hair); border-radius: 1rem; font-size: 0.85rem; cursor: pointer; color: var(--soft); }
.switch input:checked + label { background: var(--ink); border-color: var(--ink); color: var(--paper); }
.switch input:focus-visible + label { outline: 2px solid var(--s0); outline-offset: 2px; }
.switch .pane { display: none; }
.switch input:nth-of-type(1):checked ~ .pane:nth-of-type(1), .switch input:nth-of-type(2):checked ~ .pane:nth-of-type(2),
.switch input:nth-of-type(3):checked ~ .pane:nth-of-type(3), .switch input:nth-of-type(4):checked ~ .pane:nth-of-type(4) { display: block; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; color: var(--soft); font-size: 0.9rem; }
summary:hover { color: var(--ink); }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1rem; margin: 0.75rem 0 1.5rem; }
.sample { background: var(--card); border: 1px solid var(--hair); border-radius: 8px; padding: 0.8rem 1rem; }
.sample h4 { margin: 0 0 0.3rem; font-size: 0.85rem; font-weight: 600; color: var(--soft); }
.sample p { margin: 0; font-family: Charter, Georgia, "DejaVu Serif", serif; }
.sample .prompt { color: var(--soft); }
.tokens { list-style: none; margin: 0.75rem 0; padding: 0; }
.tokens li { padding: 0.55rem 0; border-bottom: 1px solid var(--hair); font-family: Charter, Georgia, "DejaVu Serif", serif; }
.tokens mark { background: none; color: var(--bad); font-weight: 700; text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px; }
.tokens .figures { display: block; font: 0.82rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--soft); }
bdi { white-space: pre-wrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.2rem; margin: 0.5rem 0 1rem; font-size: 0.88rem; }
dt { color: var(--soft); }
dd { margin: 0; white-space: pre-wrap; }
dd, code { font-family: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; font-size: 0.82rem; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--hair); color: var(--soft); font-size: 0.85rem; }
@media (max-width: 34rem) {
  main { padding: 1.5rem 1rem 3rem; }
  .verdict .sentence { font-size: 1.2rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.5rem; }
  svg.heat { min-width: 30rem; }
}
@media print { details, .switch .pane { display: block; } }
)css";

}  // namespace attar
