// SPDX-License-Identifier: Apache-2.0
#include "tasks/question.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/text.h"
#include "tasks/prompt_answer.h"

namespace klab {
namespace {

using Ids = std::vector<int64_t>;

constexpr int64_t kDigits = 10;
constexpr std::array<const char*, 7> kQuestionWords = {"+", "copy", "reverse", "product", "=", "<end>", "<pad>"};

// Token ids; those below kDigits are the digits, the others follow in the order of kQuestionWords.
enum class Word : int64_t { plus = kDigits, copy, reverse, product, equals, end, pad, count };
constexpr int64_t id(Word word) { return static_cast<int64_t>(word); }

constexpr int64_t kMostSymbols = 1 << 20;
// With fewer questions than this all of them could be memorised, and the test split could be empty.
constexpr int64_t kFewestQuestions = 100;

std::vector<std::string> small_groups() {
  std::vector<std::string> small;
  for (const std::string& name : group_names()) {
    if (make_group(name).order() <= kDigits) small.push_back(name);
  }
  return small;
}

Group small_group(const std::string& name) {
  static const std::vector<std::string> known = small_groups();
  require(std::find(known.begin(), known.end(), name) != known.end(), "task.question.group", name,
          fmt::format("must be one of {}: the groups of at most {} elements, which are written as digits", join(known),
                      kDigits));
  return make_group(name);
}

// Up to kFewestQuestions.
int64_t count_questions(const QuestionOptions& options, int64_t symbols) {
  const int64_t operands = options.kind == "addition" ? 2 : 1;
  int64_t count = 0;
  for (int64_t size = options.smallest; size <= options.largest && count < kFewestQuestions; ++size) {
    int64_t of_size = 1;
    for (int64_t i = 0; i < operands * size && of_size < kFewestQuestions; ++i) of_size *= symbols;
    count += of_size;
  }
  return std::min(count, kFewestQuestions);
}

int64_t longest_question(const QuestionOptions& options) {
  const int64_t marks = 3;  // command or +, =, <end>
  if (options.kind == "addition") return 2 * options.largest + (options.largest + 1) + marks;
  return 2 * options.largest + marks;
}

// The digits of the sum of two numbers; all with the highest digit first.
Ids sum_of(Ids left, Ids right) {
  if (left.size() < right.size()) std::swap(left, right);
  right.insert(right.begin(), left.size() - right.size(), 0);
  Ids sum(left.size());
  int64_t carry = 0;
  for (size_t i = left.size(); i-- > 0;) {
    const int64_t digit = left[i] + right[i] + carry;
    sum[i] = digit % kDigits;
    carry = digit / kDigits;
  }
  if (carry > 0) sum.insert(sum.begin(), carry);
  return sum;
}

Ids draw_ids(Random& random, int64_t count, int64_t below) {
  Ids ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(below))));
  return ids;
}

// The prompt is the question and =, the answer ends with <end>.
Example row_of(Ids question, Ids answer, int64_t length, int64_t size) {
  question.push_back(id(Word::equals));
  answer.push_back(id(Word::end));
  return answered_row({std::move(question), std::move(answer)}, length, id(Word::pad), size);
}

}  // namespace

void QuestionOptions::visit(Fields& fields) {
  fields.choice("kind", kind, {"copy", "palindrome", "addition", "state_tracking"},
                "what is asked: a copy, the reverse, a sum, or running products");
  fields("smallest", smallest, {1, kMostSymbols}, "least number of symbols, digits per operand, or group elements");
  fields("largest", largest, {1, kMostSymbols}, "maximum of that number; it is uniform between the two");
  fields.choice("group", group, group_names(), "group of kind state_tracking, of at most 10 elements");
  fields.choice("result_order", result_order, {"highest_first", "lowest_first"},
                "order of the digits of sums; operands are always highest first");
}

Question::Question(const TaskShape& shape, const QuestionOptions& options)
    : shape_(shape),
      kind_(options.kind),
      smallest_(options.smallest),
      largest_(options.largest),
      lowest_first_(options.result_order == "lowest_first"),
      group_(small_group(options.group)) {
  require(smallest_ <= largest_, "task.question.smallest", fmt::format("{}", smallest_),
          fmt::format("must be at most task.question.largest = {}", largest_));
  const int64_t questions = count_questions(options, kind_ == "state_tracking" ? group_.order() : kDigits);
  require(questions == kFewestQuestions, "task.question.largest", fmt::format("{}", largest_),
          fmt::format("must be larger: there are only {} different questions, and fewer than {} cannot be split into "
                      "training, validation and test",
                      questions, kFewestQuestions));
  const int64_t longest = longest_question(options);
  require(shape.length >= longest, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {}: the longest question of kind {} with task.question.largest = {}", longest,
                      kind_, largest_));
}

int64_t Question::vocabulary() const { return id(Word::count); }

std::optional<int64_t> Question::end_token() const { return id(Word::end); }

std::vector<int64_t> Question::split_key(const Example& example) const { return prompt_and_answer(example).prompt; }

Example Question::generate(Random& random) const {
  if (kind_ == "addition") return sum(random);
  return kind_ == "state_tracking" ? products(random) : symbols(random);
}

int64_t Question::draw_size(Random& random) const {
  return smallest_ + static_cast<int64_t>(random.below(static_cast<uint64_t>(largest_ - smallest_ + 1)));
}

Ids Question::draw_number(Random& random) const {
  Ids digits = draw_ids(random, draw_size(random), kDigits);
  if (digits.size() > 1) digits.front() = 1 + static_cast<int64_t>(random.below(kDigits - 1));
  return digits;
}

Example Question::symbols(Random& random) const {
  const int64_t size = draw_size(random);
  Ids question = draw_ids(random, size, kDigits), answer = question;
  if (kind_ == "palindrome") std::reverse(answer.begin(), answer.end());
  question.insert(question.begin(), id(kind_ == "palindrome" ? Word::reverse : Word::copy));
  return row_of(std::move(question), std::move(answer), shape_.length, size);
}

Example Question::sum(Random& random) const {
  Ids question = draw_number(random);
  const Ids right = draw_number(random);
  const auto size = static_cast<int64_t>(std::max(question.size(), right.size()));
  Ids answer = sum_of(question, right);
  if (lowest_first_) std::reverse(answer.begin(), answer.end());
  question.push_back(id(Word::plus));
  question.insert(question.end(), right.begin(), right.end());
  return row_of(std::move(question), std::move(answer), shape_.length, size);
}

Example Question::products(Random& random) const {
  const int64_t size = draw_size(random);
  Ids question = draw_ids(random, size, group_.order()), answer;
  int64_t product = 0;
  for (const int64_t factor : question) {
    product = group_.product(product, factor);
    answer.push_back(product);
  }
  question.insert(question.begin(), id(Word::product));
  return row_of(std::move(question), std::move(answer), shape_.length, size);
}

std::string Question::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) fail("question has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  return id < kDigits ? fmt::format("{}", id) : kQuestionWords.at(static_cast<size_t>(id - kDigits));
}

TaskEntry question_task() {
  return task_entry<Question, QuestionOptions>("question", "one question, whose answer can be checked");
}

}  // namespace klab
