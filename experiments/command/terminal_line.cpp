// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/terminal_line.h"

#include <utility>

#include "core/base/text.h"

namespace klab {
namespace {

constexpr std::string_view kPasteBegin = "\x1b[200~", kPasteEnd = "\x1b[201~";
constexpr char kCtrlD = 0x04, kBackspace = 0x08, kCtrlU = 0x15, kCtrlW = 0x17, kEscape = 0x1B, kDelete = 0x7F;

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// The line ends of a text as \n: terminals send those of a paste as \r.
std::string with_line_feeds(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool pair = text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
    if (!pair) out += text[i] == '\r' ? '\n' : text[i];
  }
  return out;
}

// Whether an escape sequence is complete: ESC [ .. letter or ~, ESC O letter, ESC character.
bool complete_key(std::string_view key) {
  if (key.size() < 2) return false;
  if (key[1] == '[') return key.size() > 2 && key.back() >= 0x40 && key.back() <= 0x7E;
  return key[1] != 'O' || key.size() > 2;
}

}  // namespace

TerminalLine::Step TerminalLine::push(char byte, std::string& echo) {
  if (pasting_) {
    push_pasted(byte, echo);
  } else if (!key_.empty() || byte == kEscape) {
    push_key(byte);
  } else if (byte == '\n' || byte == '\r') {
    echo += '\n';
    return Step::kEntered;
  } else if (byte == kCtrlD) {
    if (text_.empty()) return Step::kEnd;
  } else if (byte == kBackspace || byte == kDelete) {
    erase(echo);
  } else if (byte == kCtrlU) {
    while (erase(echo)) {
    }
  } else if (byte == kCtrlW) {
    erase_word(echo);
  } else if (byte == '\t' || static_cast<unsigned char>(byte) >= 0x20) {
    text_ += byte;
    echo += byte;
  }
  return Step::kMore;
}

void TerminalLine::push_pasted(char byte, std::string& echo) {
  text_ += byte;
  if (!std::string_view(text_).substr(pasted_from_).ends_with(kPasteEnd)) return;
  pasting_ = false;
  text_.resize(text_.size() - kPasteEnd.size());
  const std::string pasted = with_line_feeds(std::string_view(text_).substr(pasted_from_));
  text_.replace(pasted_from_, std::string::npos, pasted);
  echo += printable(pasted);
}

void TerminalLine::push_key(char byte) {
  key_ += byte;
  if (!complete_key(key_)) return;
  if (key_ == kPasteBegin) {
    pasting_ = true;
    pasted_from_ = text_.size();
  }
  key_.clear();
}

// The last character, but not the end of a pasted line, which the terminal could not show.
bool TerminalLine::erase(std::string& echo) {
  if (text_.empty() || text_.back() == '\n') return false;
  while (text_.size() > 1 && continues_character(text_.back())) text_.pop_back();
  text_.pop_back();
  echo += "\b \b";
  return true;
}

void TerminalLine::erase_word(std::string& echo) {
  while (text_.ends_with(' ') && erase(echo)) {
  }
  while (!text_.empty() && !text_.ends_with(' ') && erase(echo)) {
  }
}

std::string TerminalLine::take() {
  pasting_ = false;
  key_.clear();
  return std::exchange(text_, "");
}

}  // namespace klab
