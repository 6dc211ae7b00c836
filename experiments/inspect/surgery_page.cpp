// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/surgery_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/table.h"
#include "experiments/inspect/html.h"
#include "experiments/inspect/pictures.h"
#include "experiments/plot/plot_picture.h"

namespace klab {
namespace {

constexpr size_t kSurgeryBands = 4;  // more bands would hide each other

double load_of(const Surgery& surgery, const SurgeryPoint& point) {
  return static_cast<double>(point.pairs) / static_cast<double>(surgery.key_dim);
}

std::string number_cell(double value) { return std::isnan(value) ? "" : fmt::format("{:.6g}", value); }

// The points with the most pairs.
const SurgeryPoint* last_point(const Surgery& surgery, StateEdit edit) {
  const SurgeryPoint* last = nullptr;
  for (const SurgeryPoint& point : surgery.points) {
    if (point.edit == edit) last = &point;
  }
  return last;
}

// The mixer of each run, with the run where several have that mixer.
std::vector<std::string> surgery_names(const std::vector<Surgery>& all) {
  std::vector<std::string> names;
  for (const Surgery& surgery : all) {
    const auto same = std::count_if(all.begin(), all.end(),
                                    [&](const Surgery& other) { return other.mixer.mixer == surgery.mixer.mixer; });
    const std::string name = value_name(surgery.mixer.mixer);
    names.push_back(same > 1 ? fmt::format("{} ({})", name, surgery.options.run) : name);
  }
  return names;
}

// --- Pictures --------------------------------------------------------------------------------------------------

enum class Axis { share, cosine, ratio };

struct SurgeryPicture {
  const char *file, *title, *label;
  StateEdit edit;
  SampleMean SurgeryPoint::*value;
  Axis axis;
};

constexpr SurgeryPicture kSurgeryPictures[] = {
    {"surgery_read_value.png", "value under a key", "cosine with the written value", StateEdit::read,
     &SurgeryPoint::success, Axis::cosine},
    {"surgery_read_answers.png", "answers before an edit", "keys answered with their values", StateEdit::read,
     &SurgeryPoint::answers_right, Axis::share},
    {"surgery_overwrite_changed.png", "overwritten: success", "edited key answered with the new value",
     StateEdit::overwrite, &SurgeryPoint::answers_changed, Axis::share},
    {"surgery_overwrite_kept.png", "overwritten: other answers", "other keys answered as before", StateEdit::overwrite,
     &SurgeryPoint::answers_kept, Axis::share},
    {"surgery_overwrite_damage.png", "overwritten: damage to other values", "relative change of other values",
     StateEdit::overwrite, &SurgeryPoint::damage, Axis::ratio},
    {"surgery_erase_changed.png", "erased: success", "edited key no longer answered as before", StateEdit::erase,
     &SurgeryPoint::answers_changed, Axis::share},
    {"surgery_erase_kept.png", "erased: other answers", "other keys answered as before", StateEdit::erase,
     &SurgeryPoint::answers_kept, Axis::share},
    {"surgery_erase_damage.png", "erased: damage to other values", "relative change of other values", StateEdit::erase,
     &SurgeryPoint::damage, Axis::ratio},
};

PlotCurve curve_of(const Surgery& surgery, const SurgeryPicture& shown) {
  PlotCurve curve;
  for (const SurgeryPoint& point : surgery.points) {
    const SampleMean& value = point.*shown.value;
    if (point.edit != shown.edit || !std::isfinite(value.mean)) continue;
    const double error = std::isfinite(value.error) ? value.error : 0;
    PlotPoint& at = curve.points[load_of(surgery, point)];
    at.add(value.mean - error);
    at.add(value.mean + error);
  }
  return curve;
}

void set_range(PlotAxis& y, Axis axis) {
  y.percent = axis == Axis::share;
  y.scale = axis == Axis::share ? 100 : 1;
  if (axis == Axis::ratio) {
    y.low = 0;
    y.high = y.high > 0 ? 1.08 * y.high : 1;
  } else {
    y.low = axis == Axis::share ? -0.02 : std::min(0.0, y.low);
    y.high = 1.02;
  }
}

// Draws nothing (`file` is "") if the value is defined nowhere.
DrawnPicture draw_surgery(const std::vector<Surgery>& all, const SurgeryPicture& shown, const std::string& folder) {
  const std::vector<std::string> names = surgery_names(all);
  Picture picture;
  int64_t examples = 0;
  double most = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    PlotCurve curve = curve_of(all[i], shown);
    if (curve.points.empty()) continue;
    curve.name = names[i];
    for (const auto& [load, point] : curve.points) {
      most = std::max(most, load);
      picture.y.include(point.low);
      picture.y.include(point.high);
    }
    for (const SurgeryPoint& point : all[i].points) examples = std::max(examples, point.examples);
    picture.curves.push_back(std::move(curve));
  }
  if (picture.curves.empty()) return {};
  picture.x.label = "associations in the state / key width";
  picture.x.low = 0;
  picture.x.high = 1.02 * most;
  picture.y.label = shown.label;
  set_range(picture.y, shown.axis);
  picture.bands = picture.curves.size() <= kSurgeryBands;
  picture.caption =
      fmt::format("mean of {} examples{}", examples, picture.bands ? ", bands of one standard error" : "");
  draw_picture(picture, shown.title, folder + "/" + shown.file);
  return {shown.file, shown.title,
          fmt::format("Curves of {} over the load for {} runs", shown.label, picture.curves.size())};
}

std::string surgery_figures(const std::vector<Surgery>& all, StateEdit edit, const std::string& folder) {
  std::string out = "<div class=\"figures\">\n";
  for (const SurgeryPicture& shown : kSurgeryPictures) {
    if (shown.edit != edit) continue;
    const DrawnPicture drawn = draw_surgery(all, shown, folder);
    if (drawn.file.empty()) continue;
    out += html_figure(folder + "/" + drawn.file, drawn.alt, drawn.title + " (" + drawn.file + ")");
  }
  return out + "</div>\n";
}

// --- Page ------------------------------------------------------------------------------------------------------

std::string runs_section(const std::vector<Surgery>& all, const std::vector<std::string>& provenance) {
  std::vector<std::vector<std::string>> rows;
  for (const Surgery& surgery : all) {
    rows.push_back(
        {surgery.options.run, surgery.mixer.title(),
         fmt::format("{} heads of {} x {}", surgery.heads, surgery.key_dim, surgery.value_dim),
         fmt::format("{}, length {}, {} split", surgery.task.name, surgery.task.length, surgery.options.split),
         fmt::format("{}, {} checkpoint", surgery.step, surgery.options.checkpoint),
         fmt::format("{:.1f} %", 100 * surgery.attention)});
  }
  return html_table({"run", "edited", "state (keys x values)", "task", "trained steps", "attention to the values"},
                    rows) +
         html_table({"", "this page"}, html_rows_of_lines(provenance));
}

std::string percent_cell(const SampleMean& share) {
  if (!share.known()) return "";
  const double error = std::isfinite(share.error) ? share.error : 0;
  return fmt::format("{:.1f} ± {:.1f} %", 100 * share.mean, 100 * error);
}

std::string decimal_cell(const SampleMean& value) { return value.known() ? fmt::format("{:.3f}", value.mean) : ""; }

std::vector<std::string> last_headers() {
  return {"run",
          "operation",
          "pairs",
          "load",
          "cosine",
          "damage",
          "answers right",
          "edited answer changed",
          "other answers kept"};
}

// A row per run and operation, with the most pairs.
std::vector<std::vector<std::string>> last_rows(const std::vector<Surgery>& all) {
  const std::vector<std::string> names = surgery_names(all);
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < all.size(); ++i) {
    for (const StateEdit edit : {StateEdit::read, StateEdit::overwrite, StateEdit::erase}) {
      const SurgeryPoint* point = last_point(all[i], edit);
      if (point == nullptr) continue;
      rows.push_back({names[i], to_string(edit), fmt::format("{}", point->pairs),
                      fmt::format("{:.3f}", load_of(all[i], *point)),
                      edit == StateEdit::erase ? "" : decimal_cell(point->success), decimal_cell(point->damage),
                      percent_cell(point->answers_right), percent_cell(point->answers_changed),
                      percent_cell(point->answers_kept)});
    }
  }
  return rows;
}

std::string numbers_section(const std::vector<Surgery>& all) {
  return "<h2>Numbers with the most pairs</h2>\n" + html_table(last_headers(), last_rows(all)) +
         "<p>The file <code>surgery.csv</code> has the numbers of all pairs.</p>\n";
}

std::string read_section(const std::vector<Surgery>& all, const std::string& folder) {
  return "<h2>What does the state hold?</h2>\n" +
         html_how_to_read(
             {"The state of a head is a matrix S from keys to values. The value under a key k is S<sup>T</sup>k / "
              "|k|<sup>2</sup>: after one write into an empty state it is the value v that was written. With more "
              "associations it also has a part of the other values, because keys are not orthogonal, and decay and "
              "later writes take from it. The key and the value are those that the mixer wrote at the token of the "
              "value. The load is the number of associations over the key width; a matrix can hold as many exactly as "
              "keys are wide.",
              "The answer of the model to a key is its most probable token after the associations, the separator of "
              "the task and the key. A model whose answers are right while the cosine is low reads with other keys "
              "than it writes, or in another layer."}) +
         surgery_figures(all, StateEdit::read, folder);
}

std::string overwrite_section(const std::vector<Surgery>& all, const std::string& folder) {
  return "<h2>What does overwriting one value change?</h2>\n" +
         html_how_to_read(
             {"S + k (v<sup>*</sup> &minus; S<sup>T</sup>k / |k|<sup>2</sup>)<sup>T</sup> is the state nearest to S in "
              "which the value under k is v<sup>*</sup>: a step of the delta rule with &beta; = 1. Here v<sup>*</sup> "
              "is "
              "the value that another key of the example has in the same head. The edit is exact in every mixer, also "
              "in those that only add; what differs is the damage: the value under another key k' moves by the overlap "
              "k&middot;k' / |k'|<sup>2</sup> of the keys.",
              "Success is the share of examples in which the model then answers the edited key with the other key's "
              "value. Other answers are those to the other keys; an edit without side effects keeps all of them, right "
              "or wrong. All heads of one mixer are edited; other layers are not, so a value that the model also keeps "
              "there can be answered still."}) +
         surgery_figures(all, StateEdit::overwrite, folder);
}

std::string erase_section(const std::vector<Surgery>& all, const std::string& folder) {
  return "<h2>What does erasing one value change?</h2>\n" +
         html_how_to_read({"The same edit with v<sup>*</sup> = 0. Success is the share of examples in which the model "
                           "answers the edited key with another token than before."}) +
         surgery_figures(all, StateEdit::erase, folder);
}

}  // namespace

CsvTable surgery_table(const std::vector<Surgery>& all, const std::vector<std::string>& provenance) {
  struct Column {
    const char* name;
    SampleMean SurgeryPoint::*value;
  };
  constexpr Column kColumns[] = {{"success", &SurgeryPoint::success},
                                 {"error", &SurgeryPoint::error},
                                 {"damage", &SurgeryPoint::damage},
                                 {"overlap", &SurgeryPoint::overlap},
                                 {"answers_right", &SurgeryPoint::answers_right},
                                 {"answers_changed", &SurgeryPoint::answers_changed},
                                 {"answers_kept", &SurgeryPoint::answers_kept}};
  CsvTable table{
      provenance, {"run", "layer", "part", "mixer", "key_dim", "pairs", "load", "operation", "examples"}, {}};
  for (const Column& column : kColumns) {
    table.columns.push_back(column.name);
    table.columns.push_back(std::string(column.name) + "_se");
  }
  for (const Surgery& surgery : all) {
    const MixerView& mixer = surgery.mixer;
    for (const SurgeryPoint& point : surgery.points) {
      std::vector<std::string>& row = table.rows.emplace_back(std::vector<std::string>{
          surgery.options.run, fmt::format("{}", mixer.layer), mixer.part < 0 ? "" : fmt::format("{}", mixer.part),
          mixer.mixer, fmt::format("{}", surgery.key_dim), fmt::format("{}", point.pairs),
          number_cell(load_of(surgery, point)), to_string(point.edit), fmt::format("{}", point.examples)});
      for (const Column& column : kColumns) {
        const SampleMean& value = point.*column.value;
        row.push_back(number_cell(value.mean));
        row.push_back(number_cell(value.error));
      }
    }
  }
  return table;
}

std::string surgery_summary(const std::vector<Surgery>& all) { return format_table(last_headers(), last_rows(all)); }

std::string surgery_page(const std::vector<Surgery>& all, const std::vector<std::string>& provenance,
                         const std::string& folder) {
  return html_page("Edited states", "<h1>Edited states</h1>\n" + runs_section(all, provenance) +
                                        read_section(all, folder) + overwrite_section(all, folder) +
                                        erase_section(all, folder) + numbers_section(all));
}

}  // namespace klab
