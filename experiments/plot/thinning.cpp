// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/thinning.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace klab {
namespace {

using Path = std::vector<std::pair<double, double>>;

constexpr size_t kPerColumn = 4;
constexpr int64_t kMostDrawn = 120'000, kFewestColumns = 50;

// A point to keep, and the points [begin, end) of its column of pixels.
struct KeptPoint {
  size_t index, begin, end;
};

std::vector<KeptPoint> kept_points(const Path& path, const PlotAxis& x, int64_t columns) {
  const auto column_of = [&](size_t i) { return std::floor(x.place(path[i].first) * static_cast<double>(columns)); };
  std::vector<KeptPoint> all;
  for (size_t begin = 0, end = 0; begin < path.size(); begin = end) {
    size_t low = begin, high = begin;
    for (const double column = column_of(begin); end < path.size() && column_of(end) == column; ++end) {
      if (path[end].second < path[low].second) low = end;
      if (path[end].second > path[high].second) high = end;
    }
    for (const size_t i : std::array{begin, std::min(low, high), std::max(low, high), end - 1}) {
      if (all.empty() || all.back().index != i) all.push_back({i, begin, end});
    }
  }
  return all;
}

bool is_long(size_t points, int64_t columns) { return points > kPerColumn * static_cast<size_t>(columns); }

void thin_path(Path& path, const PlotAxis& x, int64_t columns) {
  if (!is_long(path.size(), columns)) return;
  Path kept;
  for (const KeptPoint& point : kept_points(path, x, columns)) kept.push_back(path[point.index]);
  path = std::move(kept);
}

void thin_curve(PlotCurve& curve, const PlotAxis& x, int64_t columns) {
  if (!is_long(curve.points.size(), columns)) return;
  Path means;
  std::vector<PlotPoint*> points;
  for (auto& [at, point] : curve.points) {
    means.emplace_back(at, point.mean());
    points.push_back(&point);
  }
  std::map<double, PlotPoint> kept;
  for (const KeptPoint& one : kept_points(means, x, columns)) {
    PlotPoint point = *points[one.index];
    for (size_t i = one.begin; i < one.end; ++i) {
      point.low = std::min(point.low, points[i]->low);
      point.high = std::max(point.high, points[i]->high);
    }
    kept.emplace_hint(kept.end(), means[one.index].first, std::move(point));
  }
  curve.points = std::move(kept);
}

}  // namespace

void thin_out(Picture& picture, int64_t width) {
  size_t lines = 0;
  for (const PlotCurve& curve : picture.curves) lines += 1 + (picture.seeds ? curve.seeds.size() : 0);
  const int64_t share = kMostDrawn / static_cast<int64_t>(kPerColumn * std::max<size_t>(lines, 1));
  const int64_t columns = std::min(width, std::max(share, kFewestColumns));
  for (PlotCurve& curve : picture.curves) {
    thin_curve(curve, picture.x, columns);
    for (Path& path : curve.seeds) thin_path(path, picture.x, columns);
  }
}

}  // namespace klab
