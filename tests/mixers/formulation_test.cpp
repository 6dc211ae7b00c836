// SPDX-License-Identifier: Apache-2.0
// Every mixer compared with its equations, evaluated token by token in float64 from its parameters.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <Eigen/Dense>
#include <cmath>
#include <functional>
#include <limits>

#include "core/check/compare.h"
#include "mixers/support.h"

namespace klab {
namespace {

using torch::Tensor;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

constexpr Eigen::Index T = 13, H = 3, K = 10, D = 24;

Matrix to_matrix(const Tensor& x) {
  const Tensor flat = x.detach().reshape({-1, x.size(-1)}).contiguous();
  return Eigen::Map<const Matrix>(flat.data_ptr<double>(), flat.size(0), flat.size(1));
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
double softplus(double x) { return std::log(1 + std::exp(x)); }
Vector unit(const Vector& x) { return x / std::sqrt(x.squaredNorm() + 1e-6); }
Vector rms(const Vector& x, double eps) { return x / std::sqrt(x.squaredNorm() / static_cast<double>(x.size()) + eps); }

// A layer's input and parameters.
struct Layer {
  std::map<std::string, Matrix> parameters;
  Matrix x;  // [T, D]

  const Matrix& at(const std::string& name) const { return parameters.at(name); }
  Matrix project(const std::string& name) const { return project(x, name); }
  Matrix project(const Matrix& from, const std::string& name) const {
    Matrix y = from * at(name + ".weight").transpose();
    if (parameters.count(name + ".bias") > 0) y.rowwise() += at(name + ".bias").row(0);
    return y;
  }
  // silu(conv(W x)), four taps, the last one on the current token.
  Matrix convolved(const std::string& name) const {
    const Matrix raw = project(name + "_proj"), taps = at(name + "_conv.weight");
    Matrix y = Matrix::Zero(raw.rows(), raw.cols());
    for (int t = 0; t < T; ++t) {
      for (int w = 0; w < 4; ++w) {
        if (t - 3 + w >= 0) y.row(t) += taps.col(w).transpose().cwiseProduct(raw.row(t - 3 + w));
      }
    }
    return y.unaryExpr(&silu);
  }
  // KDA's decay of channel d of head h, exp(-exp(A_log) softplus(..)).
  Matrix channel_decay() const {
    Matrix y = project(project("f_a_proj"), "f_b_proj");
    for (int t = 0; t < T; ++t) {
      for (int c = 0; c < H * K; ++c) {
        y(t, c) = std::exp(-std::exp(at("A_log")(0, c / K)) * softplus(y(t, c) + at("dt_bias")(0, c)));
      }
    }
    return y;
  }
  double head_decay(int t, int h) const {
    const double raw = project("a_proj")(t, h) + at("dt_bias")(0, h);
    return std::exp(-std::exp(at("A_log")(0, h)) * softplus(raw));
  }
};

Vector head(const Matrix& y, int t, int h) { return y.row(t).segment(h * K, K).transpose(); }

// Computes o(t, h) for every token and head, tokens in order; the state of each head starts at zero.
using Step = std::function<Vector(int t, int h, Matrix& S)>;

Matrix recur(const Step& step) {
  Matrix o(T, H * K);
  for (int h = 0; h < H; ++h) {
    Matrix S = Matrix::Zero(K, K);
    for (int t = 0; t < T; ++t) o.row(t).segment(h * K, K) = step(t, h, S).transpose();
  }
  return o;
}

// Norm per head, gate, output projection.
Matrix finish(const Layer& layer, const Matrix& o, const Matrix* gate, double (*activation)(double)) {
  Matrix y = o;
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < H; ++h) {
      Vector row = rms(head(o, t, h), 1e-5).cwiseProduct(layer.at("o_norm").row(0).transpose());
      if (gate != nullptr) row = row.cwiseProduct(head(*gate, t, h).unaryExpr(activation));
      y.row(t).segment(h * K, K) = row.transpose();
    }
  }
  return layer.project(y, "o_proj");
}

Matrix low_rank_gated(const Layer& layer, const Matrix& o) {
  const Matrix gate = layer.project(layer.project("g_a_proj"), "g_b_proj");
  return finish(layer, o, &gate, &sigmoid);
}

Matrix swish_gated(const Layer& layer, const Matrix& o) {
  const Matrix gate = layer.project("g_proj");
  return finish(layer, o, &gate, &silu);
}

const double kScale = 1 / std::sqrt(static_cast<double>(K));

Matrix kda(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), decay = l.channel_decay();
  const Matrix b = l.project("b_proj");
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          const Vector key = unit(head(k, t, h));
                          S = head(decay, t, h).asDiagonal() * S;
                          S += sigmoid(b(t, h)) * key * (head(v, t, h) - S.transpose() * key).transpose();
                          return S.transpose() * unit(head(q, t, h)) * kScale;
                        }));
}

Matrix gdn(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), b = l.project("b_proj");
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          const Vector key = unit(head(k, t, h));
                          S *= l.head_decay(t, h);
                          S += sigmoid(b(t, h)) * key * (head(v, t, h) - S.transpose() * key).transpose();
                          return S.transpose() * unit(head(q, t, h)) * kScale;
                        }));
}

Matrix deltanet(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), b = l.project("b_proj");
  return finish(l, recur([&](int t, int h, Matrix& S) -> Vector {
                  const Vector key = unit(head(k, t, h));
                  S += sigmoid(b(t, h)) * key * (head(v, t, h) - S.transpose() * key).transpose();
                  return S.transpose() * unit(head(q, t, h)) * kScale;
                }),
                nullptr, nullptr);
}

Matrix longhorn(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), d = l.project("delta_proj");
  return finish(l, recur([&](int t, int h, Matrix& S) -> Vector {
                  // Minimises |S - S_prev|^2 + delta |S^T k - v|^2 by the normal equations.
                  const Vector key = head(k, t, h);
                  const double delta = sigmoid(d(t, h));
                  const Matrix system = Matrix::Identity(K, K) + delta * key * key.transpose();
                  S = system.ldlt().solve(S + delta * key * head(v, t, h).transpose()).eval();
                  return S.transpose() * head(q, t, h) * kScale;
                }),
                nullptr, nullptr);
}

Matrix comba(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), b = l.project("b_proj");
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          const Vector key = unit(head(k, t, h)), p = sigmoid(l.at("decay")(0, h)) * key;
                          S *= l.head_decay(t, h);
                          S += sigmoid(b(t, h)) * key * (head(v, t, h) - S.transpose() * p).transpose();
                          return S.transpose() * (unit(head(q, t, h)) - l.at("D")(0, h) * p) * kScale;
                        }));
}

Matrix gdn2(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), decay = l.channel_decay();
  const Matrix b = l.project("b_proj").unaryExpr(&sigmoid), w = l.project("w_proj").unaryExpr(&sigmoid);
  return low_rank_gated(
      l, recur([&](int t, int h, Matrix& S) -> Vector {
        const Vector key = unit(head(k, t, h));
        const Matrix erase = Matrix::Identity(K, K) - key * head(b, t, h).cwiseProduct(key).transpose();
        S = erase * head(decay, t, h).asDiagonal() * S + key * head(w, t, h).cwiseProduct(head(v, t, h)).transpose();
        return S.transpose() * unit(head(q, t, h)) * kScale;
      }));
}

// GDN with a state per earlier token, weighted by the level of the tree in which the reader sees that token.
double level_scale(const Layer& l, const Matrix& raw, int t, int s, int h) {
  int level = 0;
  while ((t >> level) != (s >> level)) ++level;
  const auto levels = l.at("L").cols();
  return softplus(l.at("L")(h, level) * raw(t, h * levels + level));
}

Matrix log_linear_gdn(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), b = l.project("b_proj");
  const Matrix raw = l.project("level_proj");
  Matrix o = Matrix::Zero(T, H * K);
  for (int h = 0; h < H; ++h) {
    for (int s = 0; s < T; ++s) {
      Matrix S = sigmoid(b(s, h)) * unit(head(k, s, h)) * head(v, s, h).transpose();
      for (int t = s; t < T; ++t) {
        const Vector key = unit(head(k, t, h));
        if (t > s) S = l.head_decay(t, h) * (S - sigmoid(b(t, h)) * key * (key.transpose() * S)).eval();
        const Vector read = S.transpose() * unit(head(q, t, h)) * kScale;
        o.row(t).segment(h * K, K) += level_scale(l, raw, t, s, h) * read.transpose();
      }
    }
  }
  return low_rank_gated(l, o);
}

Matrix momentum_deltanet(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), b = l.project("b_proj");
  const Matrix m = l.project("m_proj"), e = l.project("e_proj");
  Matrix M;
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          if (t == 0) M = Matrix::Zero(K, K);
                          const Vector key = unit(head(k, t, h));
                          const double eta = std::tanh(e(t, h) / std::sqrt(24.0)) + 1;
                          const double angle = std::atan(eta * std::exp(l.at("log_factor")(0, h)));
                          const double rate =
                              std::exp(l.at("Mu_log")(0, h)) * softplus(m(t, h) + l.at("mu_bias")(0, h));
                          const double alpha = std::pow(std::cos(angle), 2) * l.head_decay(t, h);
                          const Vector error = head(v, t, h) - alpha * S.transpose() * key;
                          M = (std::max(std::exp(-rate), std::exp(-2.0)) * M - eta * key * error.transpose()).eval();
                          S = (alpha * S - std::pow(std::sin(angle), 2) * sigmoid(b(t, h)) * M).eval();
                          const Vector read = head(q, t, h) - std::exp(l.at("D_log")(0, h)) * head(k, t, h);
                          return S.transpose() * unit(read) * kScale;
                        }));
}

Matrix gated_oja(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), decay = l.channel_decay();
  const Matrix b = l.project("b_proj");
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          const Vector value = unit(head(v, t, h));
                          S = S * head(decay, t, h).asDiagonal();
                          const Vector error = unit(head(k, t, h)) - S * value;
                          S += sigmoid(b(t, h)) * error * value.transpose();
                          return S.transpose() * unit(head(q, t, h)) * kScale;
                        }));
}

// KDA or GDN with two reflections or projections per token.
Matrix delta_product(const Layer& l, bool by_channel) {
  const auto convolved = [&](const std::string& name, int write) {  // of one of the writes
    const Matrix both = l.convolved(name);
    return Matrix(both.middleCols(write * H * K, H * K));
  };
  const Matrix q = l.convolved("q"), k[] = {convolved("k", 0), convolved("k", 1)};
  const Matrix v[] = {convolved("v", 0), convolved("v", 1)}, b = l.project("b_proj");
  const Matrix decay = by_channel ? l.channel_decay() : Matrix();
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          const Vector kept = by_channel ? head(decay, t, h) : Vector::Constant(K, l.head_decay(t, h));
                          S = kept.asDiagonal() * S;
                          for (int write = 0; write < 2; ++write) {
                            const Vector key = unit(head(k[write], t, h));
                            const double beta = 2 * sigmoid(b(t, write * H + h));
                            S = ((Matrix::Identity(K, K) - beta * key * key.transpose()) * S).eval();
                            S += beta * key * head(v[write], t, h).transpose();
                          }
                          return S.transpose() * unit(head(q, t, h)) * kScale;
                        }));
}

// KDA or GDN whose write goes along the key times the preconditioner.
Matrix preconditioned(const Layer& l, bool by_channel) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), b = l.project("b_proj");
  const Matrix decay = by_channel ? l.channel_decay() : Matrix();
  const Matrix forgets = l.project("preconditioner.a_proj"), writes = l.project("preconditioner.b_proj");
  Vector A;
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          if (t == 0) A = Vector::Zero(K);
                          const Vector key = unit(head(k, t, h));
                          const double rate = std::exp(l.at("preconditioner.A_log")(0, h));
                          A *= std::exp(-rate * softplus(forgets(t, h) + l.at("preconditioner.dt_bias")(0, h)));
                          A += sigmoid(writes(t, h)) * key.cwiseProduct(key);
                          const double center = l.at("preconditioner.center")(0, h);
                          const Vector scale = A.unaryExpr([&](double a) {
                            const double beyond = std::log(a + 1e-6) - center;
                            return std::pow(1.5, -beyond / (1 + std::abs(beyond)));
                          });
                          const Vector kept = by_channel ? head(decay, t, h) : Vector::Constant(K, l.head_decay(t, h));
                          S = kept.asDiagonal() * S;
                          S += sigmoid(b(t, h)) * scale.cwiseProduct(key) *
                               (head(v, t, h) - S.transpose() * key).transpose();
                          return S.transpose() * unit(head(q, t, h)) * kScale;
                        }));
}

Matrix dplr(const Layer& l) {
  const Matrix q = l.convolved("q"), k = l.convolved("k"), v = l.convolved("v"), decay = l.channel_decay();
  const Matrix beta = l.project("b_proj"), write = l.project("write_proj"), read = l.project("read_proj");
  return low_rank_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                          Matrix transition = head(decay, t, h).asDiagonal();
                          transition -=
                              sigmoid(beta(t, h)) * unit(head(write, t, h)) * unit(head(read, t, h)).transpose();
                          S = transition * S + unit(head(k, t, h)) * head(v, t, h).transpose();
                          return S.transpose() * unit(head(q, t, h)) * kScale;
                        }));
}

Matrix linear_attention(const Layer& l) {
  const Matrix q = l.project("q_proj"), k = l.project("k_proj"), v = l.project("v_proj");
  const auto features = [&](const Vector& x, const std::string& side) -> Vector {
    const auto map = [&](const std::string& name) -> Vector {
      return l.at(side + name + ".weight") * x + l.at(side + name + ".bias").transpose();
    };
    return map("_map1").cwiseProduct(map("_map2"));
  };
  // As attention without a softmax, so that no state is involved.
  Matrix o = Matrix::Zero(T, H * K);
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < H; ++h) {
      for (int s = 0; s <= t; ++s) {
        const double weight = features(head(q, t, h), "q").dot(features(head(k, s, h), "k")) * kScale;
        o.row(t).segment(h * K, K) += weight * head(v, s, h).transpose();
      }
    }
  }
  return finish(l, o, nullptr, nullptr);
}

// Channels i and i + n / 2 as a complex number, times e^(i position angle).
Vector rotated(const Vector& x, int position) {
  const int half = static_cast<int>(x.size()) / 2;
  Vector y(x.size());
  for (int i = 0; i < half; ++i) {
    const double angle = position * std::pow(10000.0, -static_cast<double>(i) / half);
    y(i) = x(i) * std::cos(angle) - x(i + half) * std::sin(angle);
    y(i + half) = x(i) * std::sin(angle) + x(i + half) * std::cos(angle);
  }
  return y;
}

Matrix retnet(const Layer& l) {
  const Matrix q = l.project("q_proj"), k = l.project("k_proj"), v = l.project("v_proj");
  Matrix o = Matrix::Zero(T, H * K);
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < H; ++h) {
      for (int s = 0; s <= t; ++s) {
        const double faded = std::pow(1 - std::pow(2.0, -5 - h), t - s);
        const double weight = faded * rotated(head(q, t, h), t).dot(rotated(head(k, s, h), s)) * kScale;
        o.row(t).segment(h * K, K) += weight * head(v, s, h).transpose();
      }
    }
  }
  return swish_gated(l, o);
}

// The only layer of its model.
Matrix lightning(const Layer& l) {
  const auto activated = [&](const char* name) -> Matrix { return l.project(name).unaryExpr(&silu); };
  const Matrix q = activated("q_proj"), k = activated("k_proj"), v = activated("v_proj"), gate = l.project("g_proj");
  Matrix o = Matrix::Zero(T, H * K);
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < H; ++h) {
      const double slope = std::pow(2.0, -8.0 * (h + 1) / H) * (1 + 1e-5);
      for (int s = 0; s <= t; ++s) {
        const double weight = std::exp(-slope * (t - s)) * head(q, t, h).dot(head(k, s, h));
        o.row(t).segment(h * K, K) += weight * head(v, s, h).transpose();
      }
    }
    o.row(t) = rms(o.row(t).transpose(), 1e-5).transpose().cwiseProduct(l.at("o_norm").row(0)).eval();
    o.row(t) = o.row(t).cwiseProduct(gate.row(t).unaryExpr(&sigmoid)).eval();
  }
  return l.project(o, "o_proj");
}

Matrix gla(const Layer& l) {
  const Matrix q = l.project("q_proj"), k = l.project("k_proj"), v = l.project("v_proj");
  const Matrix raw = l.project(l.project("gk_a_proj"), "gk_b_proj");
  return swish_gated(l, recur([&](int t, int h, Matrix& S) -> Vector {
                       const Vector decay =
                           head(raw, t, h).unaryExpr([](double x) { return std::pow(sigmoid(x), 1.0 / 16); });
                       S = decay.asDiagonal() * S + head(k, t, h) * head(v, t, h).transpose();
                       return S.transpose() * head(q, t, h) * kScale;
                     }));
}

Matrix hgrn2(const Layer& l) {
  const Matrix q = l.project("q_proj").unaryExpr(&silu), f = l.project("k_proj").unaryExpr(&sigmoid);
  const Matrix v = l.project("v_proj");
  Matrix o = recur([&](int t, int h, Matrix& S) -> Vector {
    const Vector forget = head(f, t, h);
    S = forget.asDiagonal() * S + (Vector::Ones(K) - forget) * head(v, t, h).transpose();
    return S.transpose() * head(q, t, h) * kScale;
  });
  for (int t = 0; t < T; ++t) {
    o.row(t) = rms(o.row(t).transpose(), 1e-5).transpose().cwiseProduct(l.at("o_norm").row(0));
  }
  return l.project(o, "o_proj");
}

// With levels: of log-linear attention, a state per earlier token.
Matrix mamba2(const Layer& l, bool levels) {
  const Matrix all = l.project("in_proj");  // z, x, B, C, dt
  const Eigen::Index inner = H * K;
  Matrix mixed = Matrix::Zero(T, inner + 2 * K);
  for (int t = 0; t < T; ++t) {
    mixed.row(t) = l.at("conv.bias").row(0);
    for (int w = 0; w < 4; ++w) {
      if (t - 3 + w < 0) continue;
      mixed.row(t) +=
          l.at("conv.weight").col(w).transpose().cwiseProduct(all.row(t - 3 + w).segment(inner, inner + 2 * K));
    }
  }
  mixed = mixed.unaryExpr(&silu).eval();
  const Matrix raw = levels ? l.project("level_proj") : Matrix();
  const auto dt = [&](int t, int h) { return softplus(all(t, 2 * inner + 2 * K + h) + l.at("dt_bias")(0, h)); };
  Matrix y(T, inner);
  for (int h = 0; h < H; ++h) {
    for (int t = 0; t < T; ++t) {
      Vector sum = l.at("D")(0, h) * head(mixed, t, h);
      double kept = 1;
      for (int s = t; s >= 0; --s) {
        const double score = mixed.row(t).segment(inner + K, K).dot(mixed.row(s).segment(inner, K));
        const double scale = levels ? level_scale(l, raw, t, s, h) : 1;
        sum += scale * kept * score * dt(s, h) * head(mixed, s, h);
        kept *= std::exp(-dt(s, h) * std::exp(l.at("A_log")(0, h)));
      }
      y.row(t).segment(h * K, K) = sum.transpose();
    }
  }
  for (int t = 0; t < T; ++t) {
    const Vector gated = y.row(t).transpose().cwiseProduct(all.row(t).head(inner).transpose().unaryExpr(&silu));
    y.row(t) = rms(gated, 1e-5).transpose().cwiseProduct(l.at("norm").row(0));
  }
  return l.project(y, "out_proj");
}

// Turns the pairs of adjacent channels among the first rows of S by -angle, as a complex number times e^(-i angle).
void turn_back(Matrix& S, const Vector& angle) {
  for (int i = 0; i < angle.size(); ++i) {
    const double cosine = std::cos(angle(i)), sine = std::sin(angle(i));
    const Eigen::RowVectorXd real = S.row(2 * i), imaginary = S.row(2 * i + 1);
    S.row(2 * i) = cosine * real + sine * imaginary;
    S.row(2 * i + 1) = cosine * imaginary - sine * real;
  }
}

// Half of the channels are rotated. The state turns with the tokens; keys and queries do not.
Matrix mamba3(const Layer& l, int rank) {
  constexpr int kPairs = K / 4, kInner = H * K;
  const Matrix all = l.project("in_proj");  // z, x, B, C, dt, A, lambda, theta
  const int at_B = 2 * kInner, at_C = at_B + rank * K, at_dt = at_C + rank * K, at_theta = at_dt + 3 * H;
  const auto mimo = [&](const std::string& name, int r, int h) -> Vector {
    return rank == 1 ? Vector::Ones(K) : Vector(l.at("mimo_" + name).row(h * rank + r).transpose());
  };
  const auto key = [&](const std::string& name, int start, int t, int r, int h) -> Vector {
    const Vector y = rms(all.row(t).segment(start + r * K, K).transpose(), 1e-5);
    return y.cwiseProduct(l.at(name + "_norm.weight").row(0).transpose()) +
           l.at(name + "_bias").row(h * rank + r).transpose();
  };
  const auto value = [&](int t, int r, int h) -> Vector {
    return all.row(t).segment(kInner + h * K, K).transpose().cwiseProduct(mimo("x", r, h));
  };
  const auto writes = [&](int t, int h) {
    Matrix sum = Matrix::Zero(K, K);
    for (int r = 0; r < rank; ++r) sum += key("B", at_B, t, r, h) * value(t, r, h).transpose();
    return sum;
  };
  const Matrix y = recur([&](int t, int h, Matrix& S) -> Vector {
    const double dt = softplus(all(t, at_dt + h) + l.at("dt_bias")(0, h)), lambda = sigmoid(all(t, at_dt + 2 * H + h));
    const double alpha = std::exp(-dt * std::max(softplus(all(t, at_dt + H + h)), 1e-4));
    const Vector theta = all.row(t).segment(at_theta, kPairs).transpose();
    if (t > 0) S += (1 - lambda) * dt * writes(t - 1, h);
    S *= alpha;
    turn_back(S, theta.unaryExpr([&](double x) { return M_PI * std::tanh(x) * dt; }));
    S += lambda * dt * writes(t, h);
    Vector sum = Vector::Zero(K);
    for (int r = 0; r < rank; ++r) {
      const Vector read = S.transpose() * key("C", at_C, t, r, h) + l.at("D")(0, h) * value(t, r, h);
      const Vector gate = head(all, t, h).cwiseProduct(mimo("z", r, h)).unaryExpr(&silu);
      sum += read.cwiseProduct(gate).cwiseProduct(mimo("o", r, h));
    }
    return sum;
  });
  return l.project(y, "out_proj");
}

Matrix rwkv7(const Layer& l) {
  const auto blended = [&](const char* name) {
    Matrix y = l.x;
    for (int t = 0; t < T; ++t) {
      const Eigen::RowVectorXd before = t == 0 ? Eigen::RowVectorXd::Zero(D) : Eigen::RowVectorXd(l.x.row(t - 1));
      y.row(t) += (before - l.x.row(t)).cwiseProduct(l.at(name).row(0));
    }
    return y;
  };
  const auto through = [&](const char* blend, const char* down, const char* up, double (*activation)(double)) {
    Matrix middle = l.project(blended(blend), down);
    if (activation != nullptr) middle = middle.unaryExpr(activation).eval();
    return l.project(middle, up);
  };
  const Matrix r = l.project(blended("x_r"), "r_proj"), k = l.project(blended("x_k"), "k_proj");
  const Matrix v = l.project(blended("x_v"), "v_proj");
  const Matrix w = through("x_w", "w_a_proj", "w_b_proj", [](double x) { return std::tanh(x); });
  const Matrix a = through("x_a", "a_a_proj", "a_b_proj", nullptr).unaryExpr(&sigmoid);
  const Matrix g = through("x_g", "g_a_proj", "g_b_proj", &sigmoid);
  const auto of_head = [&](const char* name, int h) -> Vector {
    return l.at(name).row(0).segment(h * K, K).transpose();
  };
  Matrix y = recur([&](int t, int h, Matrix& S) -> Vector {
    const Vector step = head(a, t, h), kk = unit(head(k, t, h).cwiseProduct(of_head("k_k", h)));
    const Vector key =
        head(k, t, h).cwiseProduct(Vector::Ones(K) + (step - Vector::Ones(K)).cwiseProduct(of_head("k_a", h)));
    const Vector decay = head(w, t, h).unaryExpr([](double x) { return std::exp(-std::exp(-0.5) * sigmoid(x)); });
    Matrix transition = decay.asDiagonal();
    transition -= kk.cwiseProduct(step) * kk.transpose();
    S = transition * S + key * head(v, t, h).transpose();
    const Vector o = S.transpose() * head(r, t, h);
    const Vector centred = o - Vector::Constant(K, o.mean());
    const Vector normed = centred / std::sqrt(centred.squaredNorm() / K + 1e-5 * K);
    const double bonus = head(r, t, h).cwiseProduct(key).dot(l.at("r_k").row(h).transpose());
    return normed.cwiseProduct(of_head("norm_weight", h)) + of_head("norm_bias", h) + bonus * head(v, t, h);
  });
  return l.project(y.cwiseProduct(g), "o_proj");
}

// Softmax over logits(t, s, h), s <= t, of values(s, h).
Matrix softmax_mixed(const std::function<double(int t, int s, int h)>& logit,
                     const std::function<Vector(int s, int h)>& value, Eigen::Index width) {
  Matrix o = Matrix::Zero(T, H * width);
  for (int t = 0; t < T; ++t) {
    for (int h = 0; h < H; ++h) {
      double sum = 0;
      Vector mixed = Vector::Zero(width);
      for (int s = 0; s <= t; ++s) {
        const double weight = std::exp(logit(t, s, h));
        sum += weight;
        mixed += weight * value(s, h);
      }
      o.row(t).segment(h * width, width) = mixed.transpose() / sum;
    }
  }
  return o;
}

Matrix softmax_attention(const Layer& l, bool rotary, bool forgets, int window = T) {
  const Matrix q = l.project("q_proj"), k = l.project("k_proj"), v = l.project("v_proj");
  const Matrix f = forgets ? l.project("f_proj") : Matrix::Zero(T, H);
  const auto logit = [&](int t, int s, int h) {
    if (s <= t - window) return -std::numeric_limits<double>::infinity();
    const Vector query = rotary ? rotated(head(q, t, h), t) : head(q, t, h);
    const Vector key = rotary ? rotated(head(k, s, h), s) : head(k, s, h);
    double faded = 0;
    for (int i = s + 1; forgets && i <= t; ++i) faded += std::log(sigmoid(f(i, h)));
    return query.dot(key) * kScale + faded;
  };
  return l.project(softmax_mixed(
                       logit, [&](int s, int h) { return head(v, s, h); }, K),
                   "o_proj");
}

// A quarter of 10 channels, made even: two are rotated.
Matrix gated_attention(const Layer& l) {
  const Matrix both = l.project("q_proj"), k = l.project("k_proj"), v = l.project("v_proj");
  const auto turned = [&](const Vector& x, const std::string& norm, int position) {
    Vector y = rms(x, 1e-5).cwiseProduct(l.at(norm + ".weight").row(0).transpose());
    y.head(2) = rotated(y.head(2), position).eval();
    return y;
  };
  const auto logit = [&](int t, int s, int h) {
    const Vector query = both.row(t).segment(int64_t{2} * h * K, K).transpose();
    return turned(query, "q_norm", t).dot(turned(head(k, s, h), "k_norm", s)) * kScale;
  };
  Matrix o = softmax_mixed(
      logit, [&](int s, int h) { return head(v, s, h); }, K);
  for (int h = 0; h < H; ++h) {
    const Matrix gate = both.middleCols((2 * h + 1) * K, K).unaryExpr(&sigmoid);
    o.middleCols(h * K, K) = o.middleCols(h * K, K).cwiseProduct(gate).eval();
  }
  return l.project(o, "o_proj");
}

// head_dim 10: nope 10, rope 6, values 10, latent 40.
Matrix latent_attention(const Layer& l, bool rotary, bool gated = false) {
  constexpr Eigen::Index kRope = 6, kLatent = 40, kQuery = K + kRope;
  const Matrix q = l.project("q_proj"), down = l.project("kv_a_proj");
  Matrix latent(T, kLatent);
  for (int t = 0; t < T; ++t) {
    const Vector c = down.row(t).head(kLatent).transpose();
    latent.row(t) = rms(c, 1e-6).transpose().cwiseProduct(l.at("kv_a_norm.weight").row(0));
  }
  const Matrix up = l.project(latent, "kv_b_proj");  // per head: nope, then values
  const auto logit = [&](int t, int s, int h) {
    Vector query = q.row(t).segment(h * kQuery, kQuery).transpose(), shared = down.row(s).tail(kRope).transpose();
    if (rotary) {
      query.tail(kRope) = rotated(query.tail(kRope), t).eval();
      shared = rotated(shared, s);
    }
    const double content = query.head(K).dot(up.row(s).segment(K * 2 * h, K).transpose());
    return (content + query.tail(kRope).dot(shared)) / std::sqrt(static_cast<double>(kQuery));
  };
  const auto value = [&](int s, int h) -> Vector { return up.row(s).segment((2 * h + 1) * K, K).transpose(); };
  Matrix o = softmax_mixed(logit, value, K);
  if (gated) o = o.cwiseProduct(l.project("g_proj").unaryExpr(&sigmoid)).eval();
  return l.project(o, "o_proj");
}

const std::map<std::string, std::function<Matrix(const Layer&)>> kFormulations = {
    {"kda", kda},
    {"gdn", gdn},
    {"mamba2", [](const Layer& l) { return mamba2(l, false); }},
    {"log_linear_mamba2", [](const Layer& l) { return mamba2(l, true); }},
    {"log_linear_gdn", log_linear_gdn},
    {"momentum_deltanet", momentum_deltanet},
    {"gated_oja", gated_oja},
    {"mamba3", [](const Layer& l) { return mamba3(l, 1); }},
    {"mamba3_mimo", [](const Layer& l) { return mamba3(l, 4); }},
    {"dplr", dplr},
    {"mla", [](const Layer& l) { return latent_attention(l, false); }},
    {"mla_rope", [](const Layer& l) { return latent_attention(l, true); }},
    {"attention", [](const Layer& l) { return softmax_attention(l, false, false); }},
    {"attention_rope", [](const Layer& l) { return softmax_attention(l, true, false); }},
    {"fox", [](const Layer& l) { return softmax_attention(l, false, true); }},
    {"sliding_attention", [](const Layer& l) { return softmax_attention(l, true, false, 5); }},
    {"gated_attention", gated_attention},
    {"gated_mla", [](const Layer& l) { return latent_attention(l, false, true); }},
    {"linear_attention", linear_attention},
    {"retnet", retnet},
    {"lightning", lightning},
    {"gla", gla},
    {"hgrn2", hgrn2},
    {"deltanet", deltanet},
    {"longhorn", longhorn},
    {"comba", comba},
    {"gdn2", gdn2},
    {"gated_deltaproduct", [](const Layer& l) { return delta_product(l, false); }},
    {"kda_product", [](const Layer& l) { return delta_product(l, true); }},
    {"precond_gdn", [](const Layer& l) { return preconditioned(l, false); }},
    {"precond_kda", [](const Layer& l) { return preconditioned(l, true); }},
    {"rwkv7", rwkv7}};

class Formulation : public testing::TestWithParam<std::string> {};

TEST_P(Formulation, IsWhatTheMixerComputes) {
  ASSERT_EQ(kTestShape.width, D);
  const auto found = kFormulations.find(GetParam());
  if (found == kFormulations.end()) GTEST_SKIP() << "no equations for '" << GetParam() << "' in this file yet";
  const auto mixer = test_mixer(GetParam(), torch::kDouble);
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({1, T, D}, at::make_generator<at::CPUGeneratorImpl>(11)).to(torch::kDouble);
  Layer layer{{}, to_matrix(x)};
  for (const auto& item : mixer->named_parameters()) layer.parameters[item.key()] = to_matrix(item.value());
  const Matrix expected = found->second(layer);
  const Tensor wanted = torch::from_blob(const_cast<double*>(expected.data()), {1, T, D}, torch::kDouble).clone();
  const Comparison result =
      compare(mixer->forward(x, {}, nullptr), wanted, Tolerance{.of_element = 1e-10, .of_rms = 1e-10});
  EXPECT_TRUE(result.pass) << result.message;

  // The reference must be sensitive to the parameters.
  layer.parameters.begin()->second(0, 0) += 0.5;
  EXPECT_GT((found->second(layer) - expected).cwiseAbs().maxCoeff(), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Registry, Formulation, testing::ValuesIn(mixers().names()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace klab
