// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/pictures.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>

#include "core/base/text.h"
#include "experiments/plot/gnuplot.h"
#include "experiments/plot/plot.h"
#include "experiments/plot/plot_picture.h"
#include "experiments/plot/plot_script.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kPageHeads = 8;        // heat maps per picture
constexpr int64_t kNamedTokens = 40;     // up to this many tokens, the axes of a heat map show token names
constexpr int64_t kMostDrawnHeads = 16;  // heads in one picture of curves
constexpr int64_t kMostBands = 4;        // more bands would hide each other
constexpr const char* kTerminal = "pngcairo";

// White is 0. Colours change fastest near 0, depending on the number of tokens in a row, so that a weight of several
// times 1 / tokens is visible for any length.
std::string palette(bool with_negative, int64_t tokens) {
  const double share = 1.0 / static_cast<double>(std::max<int64_t>(tokens, 32));
  const std::string positive = fmt::format(
      "0 '#ffffff', {:.5f} '#deebf7', {:.5f} '#6baed6', 0.4 '#2171b5', 1 '#08306b'", 0.6 * share, 4 * share);
  const std::string negative =
      fmt::format("-1 '#7f2704', -0.4 '#d94801', {:.5f} '#fd8d3c', {:.5f} '#fee6ce', ", -4 * share, -0.6 * share);
  return fmt::format("set palette defined ({}{})\nset cbrange [{}:1]\n", with_negative ? negative : "", positive,
                     with_negative ? -1 : 0);
}

// Palette of half-lives, from short to long.
constexpr const char* kLives =
    "set palette defined (0 '#fde725', 1 '#5ec962', 2 '#21918c', 3 '#3b528b', 4 '#440154')\n";

std::string head_of_script(int width, int height) {
  return fmt::format(
      "set encoding utf8\nset terminal {} size {},{} noenhanced font 'sans-serif,15' background rgb '#ffffff'\n"
      "set border lw 1.2 lc rgb '#404040'\nset tics nomirror out textcolor rgb '#000000'\n",
      kTerminal, width, height);
}

std::string background(const char* colour) {
  return fmt::format("set object 1 rectangle from graph 0,0 to graph 1,1 fc rgb '{}' fs solid noborder behind\n",
                     colour);
}

// A matrix as a gnuplot data block. Non-finite elements are not drawn.
std::string matrix_block(const std::string& name, const Tensor& matrix) {
  const Tensor wide = matrix.to(torch::kDouble).contiguous();
  const auto cell = wide.accessor<double, 2>();
  std::string out = fmt::format("${} << EOD\n", name);
  for (int64_t i = 0; i < cell.size(0); ++i) {
    for (int64_t j = 0; j < cell.size(1); ++j) {
      out += std::isfinite(cell[i][j]) ? fmt::format("{:.5g} ", cell[i][j]) : "NaN ";
    }
    out += "\n";
  }
  return out + "EOD\n";
}

// --- Half-lives ------------------------------------------------------------------------------------------------

// The powers of ten around the finite, positive half-lives, clamped to 10^-3 .. 10^7 tokens.
std::pair<double, double> decades(const Tensor& half_life) {
  const Tensor drawn = half_life.masked_select(half_life.isfinite().logical_and(half_life > 0)).clamp(1e-3, 1e7);
  if (drawn.numel() == 0) return {1, 10};
  const double low = std::floor(std::log10(drawn.min().item<double>() / 1.25));  // so that the shortest bar is visible
  const double high = std::ceil(std::log10(drawn.max().item<double>()));
  return {std::pow(10, low), std::pow(10, std::max(high, low + 1))};
}

void draw_half_life_map(const MixerView& view, const std::string& title, const std::string& out) {
  const auto [low, high] = decades(view.decays.half_life);
  Tensor sorted = std::get<0>(view.decays.half_life.sort(1));  // [HV, C], infinite ones last
  sorted = sorted.masked_fill(sorted.eq(0), low);
  const int64_t heads = sorted.size(0), channels = sorted.size(1);
  // gnuplot cannot draw an image with a single row, so every head has two rows of half the height.
  std::string script = matrix_block("lives", sorted.repeat_interleave(2, 0));
  script += head_of_script(1200, static_cast<int>(320 + std::min<int64_t>(45 * heads, 700))) + kLives;
  script += fmt::format("set logscale cb\nset cbrange [{}:{}]\nset format cb '%g'\n", low, high);
  script += background("#000000") + "set title " + gnuplot_text(title) + "\n";
  script +=
      "set cblabel 'half-life (tokens)' offset 1.5,0\nset xlabel 'channels, each head sorted from short to long'\n";
  script += "set ylabel 'head'\n";
  script += fmt::format("set xrange [-0.5:{}]\nset yrange [{}:-0.5]\nset ytics {}\n",
                        static_cast<double>(channels) - 0.5, static_cast<double>(heads) - 0.5, heads > 16 ? 4 : 1);
  script += "plot $lives matrix using 1:($2/2-0.25):3 with image notitle\n";
  run_gnuplot(script, out);
}

PlotAxis names_axis(const std::string& label, const std::vector<std::string>& names) {
  PlotAxis axis;
  axis.label = label;
  for (size_t i = 0; i < names.size(); ++i) axis.tics.emplace_back(names[i], i);
  axis.low = -0.6;
  axis.high = static_cast<double>(names.size()) - 0.4;
  return axis;
}

PlotCurve bars(const std::vector<double>& values) {
  PlotCurve curve;
  for (size_t i = 0; i < values.size(); ++i) curve.points[static_cast<double>(i)].add(values[i]);
  return curve;
}

// One decay per head, as bars. Heads without decay have a full bar and are labelled "never fades".
void draw_half_life_bars(const MixerView& view, const std::string& title, const std::string& out) {
  const auto [low, high] = decades(view.decays.half_life);
  std::vector<std::string> names;
  std::vector<double> values;
  for (int64_t head = 0; head < view.decays.half_life.size(0); ++head) {
    const double life = view.decays.half_life[head][0].item<double>();
    names.push_back(fmt::format("{}{}", head, std::isinf(life) ? " (never fades)" : ""));
    values.push_back(std::clamp(life, low, high));
  }
  Picture picture;
  picture.bars = true;
  picture.x = names_axis("head", names);
  picture.y.label = "half-life (tokens)";
  picture.y.log = true;
  picture.y.low = low;
  picture.y.high = high;
  picture.curves.push_back(bars(values));
  draw_picture(picture, title, out);
}

// --- Weights ---------------------------------------------------------------------------------------------------

// Rows divided by the sum of their absolute values, so that linear mixers can be compared with softmax: their outputs
// are normalised after the mixer, so the scale of a row does not matter. NaN for later tokens.
Tensor shares_of(const Tensor& weights) {
  const Tensor sums = weights.abs().sum(-1, /*keepdim=*/true);
  const Tensor shares = weights / sums.masked_fill(sums.eq(0), 1);
  const Tensor later = torch::ones_like(shares, torch::kBool).triu(1);
  return shares.masked_fill(later, std::numeric_limits<double>::quiet_NaN());
}

// "k7 → v3" for a token with a target.
std::string reading_token(const DrawnExample& drawn, size_t t) {
  return drawn.target_names[t].empty() ? drawn.names[t] : drawn.names[t] + " → " + drawn.target_names[t];
}

int tic_size(int64_t tokens) { return tokens <= 20 ? 12 : tokens <= 28 ? 11 : 9; }

std::string token_tics(const DrawnExample& drawn, int64_t tokens) {
  if (tokens > kNamedTokens) return "set xtics auto\nset ytics auto\n";
  std::vector<std::string> read, reading;
  for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
    read.push_back(fmt::format("{} {}", gnuplot_text(drawn.names[t], /*tic=*/true), t));
    reading.push_back(fmt::format("{} {}", gnuplot_text(reading_token(drawn, t), true), t));
  }
  const int size = tic_size(tokens);
  return fmt::format("set xtics rotate by 90 right ({}) font ',{}'\nset ytics ({}) font ',{}'\n", join(read), size,
                     join(reading), size);
}

// The layout of a page of heat maps, in pixels. gnuplot's own layout wastes space.
struct PageOfSquares {
  static constexpr int kSide = 520, kRight = 116, kTitle = 50, kAbove = 60;

  PageOfSquares(int64_t heads, const Inspection& found)
      : columns(static_cast<int>(std::min<int64_t>(heads, 2))),
        rows((static_cast<int>(heads) + columns - 1) / columns),
        left(64 + letters(found, true)),
        below(66 + letters(found, false)),
        width(columns * (left + kSide + kRight)),
        height(rows * (kAbove + kSide + below) + kTitle) {}

  // The margins of heat map number `i`, as fractions of the page.
  std::string margins(int i) const {
    const int x = i % columns * (left + kSide + kRight) + left;
    const int y = kTitle + i / columns * (kAbove + kSide + below) + kAbove;  // from the top
    const auto across = [&](int at) { return static_cast<double>(at) / width; };
    const auto up = [&](int at) { return 1 - static_cast<double>(at) / height; };
    return fmt::format(
        "set lmargin at screen {:.5f}\nset rmargin at screen {:.5f}\nset tmargin at screen {:.5f}\n"
        "set bmargin at screen {:.5f}\n",
        across(x), across(x + kSide), up(y), up(y + kSide));
  }

  // The axis labels. gnuplot would place its own too far from rotated tic labels.
  std::string labels() const {
    const auto share = [](int pixels) { return static_cast<double>(pixels) / kSide; };
    return fmt::format(
        "set label 2 'token that is read' center at graph 0.5, graph {:.4f}\n"
        "set label 3 'token that reads' center rotate by 90 at graph {:.4f}, graph 0.5\n",
        -share(below - 16), -share(left - 16));
  }

  int columns, rows, left, below, width, height;

 private:
  // Width of the longest name along an axis.
  static int letters(const Inspection& found, bool reading) {
    if (found.shown_tokens > kNamedTokens) return 30;
    size_t longest = 0;
    for (size_t t = 0; t < static_cast<size_t>(found.shown_tokens); ++t) {
      longest = std::max(longest, (reading ? reading_token(found.drawn, t) : found.drawn.names[t]).size());
    }
    return static_cast<int>(0.85 * static_cast<double>(longest) * tic_size(found.shown_tokens));
  }
};

void draw_weights_page(const MixerView& view, const Inspection& found, int64_t first, int64_t heads,
                       const std::string& title, const std::string& out) {
  const Tensor shares = shares_of(view.weights.narrow(0, first, heads).to(torch::kDouble));
  const PageOfSquares page(heads, found);
  std::string script;
  for (int64_t head = 0; head < heads; ++head) script += matrix_block(fmt::format("head{}", head), shares[head]);
  script += head_of_script(page.width, page.height);
  script += palette(view.linear, found.shown_tokens);
  script += fmt::format("set multiplot title {} font ',18'\n", gnuplot_text(title));
  script += background("#eeeeee") + token_tics(found.drawn, found.shown_tokens);
  const double end = static_cast<double>(found.shown_tokens) - 0.5;
  script += fmt::format("set xrange [-0.5:{0}]\nset yrange [{0}:-0.5]\n", end);
  script += page.labels();
  for (int64_t head = 0; head < heads; ++head) {
    script += page.margins(static_cast<int>(head));
    script += fmt::format("set title 'head {}'\nplot $head{} matrix with image notitle\n", first + head, head);
  }
  run_gnuplot(script + "unset multiplot\n", out);
}

}  // namespace

void draw_picture(const Picture& picture, const std::string& title, const std::string& out, int height) {
  PlotOptions options;
  options.title = title;
  options.height = height;
  options.font_scale = 1.15;
  run_gnuplot(gnuplot_script(picture, options, kTerminal), out);
}

DrawnPicture draw_half_lives(const MixerView& view, const std::string& folder) {
  const Tensor& half_life = view.decays.half_life;
  if (half_life.isinf().all().item<bool>()) return {};
  DrawnPicture drawn{fmt::format("half_life_{}.png", view.stem()), view.title() + ", half-life of the state",
                     fmt::format("Half-lives of {} heads with {} channels each, on a logarithmic scale",
                                 half_life.size(0), half_life.size(1))};
  if (half_life.size(1) > 1) {
    draw_half_life_map(view, drawn.title, folder + "/" + drawn.file);
  } else {
    draw_half_life_bars(view, drawn.title, folder + "/" + drawn.file);
  }
  return drawn;
}

std::vector<DrawnPicture> draw_weights(const MixerView& view, const Inspection& found, const std::string& folder) {
  std::vector<DrawnPicture> pages;
  const int64_t heads = view.weights.size(0);
  for (int64_t first = 0; first < heads; first += kPageHeads) {
    const int64_t count = std::min(kPageHeads, heads - first);
    const std::string number = first == 0 ? "" : fmt::format("_{}", first / kPageHeads + 1);
    const char* kind = view.linear ? "implicit attention" : "softmax weights";
    pages.push_back({fmt::format("weights_{}{}.png", view.stem(), number), fmt::format("{}, {}", view.title(), kind),
                     fmt::format("Heat maps of the {} of heads {} to {}: {} by {} tokens", kind, first,
                                 first + count - 1, found.shown_tokens, found.shown_tokens),
                     count > 1});
    draw_weights_page(view, found, first, count, pages.back().title, folder + "/" + pages.back().file);
  }
  return pages;
}

DrawnPicture draw_ranks(const MixerView& view, const Inspection& found, const std::string& folder) {
  const int64_t examples = view.ranks.size(0), all = view.ranks.size(1), heads = std::min(all, kMostDrawnHeads);
  Picture picture;
  for (int64_t head = 0; head < heads; ++head) {
    PlotCurve& curve = picture.curves.emplace_back();
    curve.name = fmt::format("head {}", head);
    for (size_t p = 0; p < found.rank_tokens.size(); ++p) {
      const auto x = static_cast<double>(found.rank_tokens[p]);
      const Tensor ranks = view.ranks.select(1, head).select(1, static_cast<int64_t>(p)).contiguous();
      for (int64_t e = 0; e < examples; ++e) curve.points[x].add(ranks.data_ptr<double>()[e]);
      picture.y.include(curve.points[x].high);
    }
  }
  picture.x.label = "tokens seen";
  picture.x.low = 0;
  picture.x.high = static_cast<double>(found.rank_tokens.back());
  picture.y.label = "effective rank of the state";
  picture.y.low = 0;
  picture.y.high = std::max(1.0, 1.08 * picture.y.high);
  picture.bands = examples > 1 && heads <= kMostBands;
  picture.caption =
      fmt::format("mean of {} examples{}{}", examples, picture.bands ? ", bands from lowest to highest" : "",
                  heads < all ? fmt::format("; the first {} of {} heads", heads, all) : "");
  const std::string title = fmt::format("{}, effective rank", view.title());
  const std::string file = fmt::format("rank_{}.png", view.stem());
  draw_picture(picture, title, folder + "/" + file);
  return {file, title,
          fmt::format("Curves of the effective rank of the states of {} heads over {} tokens", heads,
                      found.rank_tokens.back())};
}

namespace {

using Slices = std::vector<std::pair<int64_t, Score>>;

// Bars of `value` of every slice, labelled by its first number. The caller sets the y axis.
Picture bars_of(const Slices& slices, const std::string& x, double (*value)(const Score&)) {
  std::vector<std::string> names;
  std::vector<double> values;
  for (const auto& [first, score] : slices) {
    names.push_back(fmt::format("{}", first));
    values.push_back(value(score));
  }
  Picture picture;
  picture.bars = true;
  picture.x = names_axis(x, names);
  picture.curves.push_back(bars(values));
  return picture;
}

}  // namespace

DrawnPicture draw_accuracy(const Evaluation& of, const std::string& folder) {
  const bool none = std::all_of(of.slices.begin(), of.slices.end(), [](const auto& slice) { return slice.first < 0; });
  if (none) return {};
  Picture picture = bars_of(of.slices, "difficulty: " + of.measure, [](const Score& score) { return score.acc_tok(); });
  picture.y.label = "targets right";
  picture.y.percent = true;
  picture.y.low = 0;
  picture.y.high = 1.02;
  picture.y.scale = 100;
  draw_picture(picture, "accuracy by difficulty", folder + "/accuracy.png");
  return {"accuracy.png", "accuracy by difficulty",
          fmt::format("Bars of the share of right answers for {} slices of the difficulty {}", of.slices.size(),
                      of.measure)};
}

std::vector<DrawnPicture> draw_losses(const Evaluation& of, const std::string& folder) {
  std::vector<DrawnPicture> drawn;
  if (of.positions.empty()) return drawn;
  const bool known = of.all.surprisal_sum > 0;
  for (const auto& [measure, slices] :
       {std::pair(of.measure, of.slices), std::pair(std::string("position"), of.positions)}) {
    const auto value =
        known ? [](const Score& score) { return score.excess(); } : [](const Score& score) { return score.loss(); };
    Picture picture = bars_of(slices, measure, value);
    picture.y.label = known ? "loss above entropy, nats per token" : "loss, nats per token";
    picture.y.low = 0;
    picture.y.high = 0;
    for (const auto& [first, score] : slices) {
      picture.y.low = std::min(picture.y.low, 1.05 * value(score));
      picture.y.high = std::max(picture.y.high, 1.05 * value(score));
    }
    const std::string title = "loss by " + measure, file = fmt::format("loss_by_{}.png", measure);
    draw_picture(picture, title, folder + "/" + file);
    drawn.push_back({file, title, fmt::format("Bars of the loss for {} slices of {}", slices.size(), measure)});
  }
  return drawn;
}

}  // namespace klab
