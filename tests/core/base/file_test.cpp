// SPDX-License-Identifier: Apache-2.0
#include "core/base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/support.h"

namespace klab {
namespace {

TEST(File, RoundTripOfAnyBytes) {
  const Folder folder;
  for (const std::string& content : {std::string(), std::string("a\0b\r\n\xff", 6), std::string(3 << 20, 'x')}) {
    write_file(folder / "a", content);
    EXPECT_EQ(read_file(folder / "a"), content);
  }
}

TEST(File, WritingReplacesAndLeavesNothingElse) {
  const Folder folder;
  write_file(folder / "a", "a long first content");
  write_file(folder / "a", "short");
  EXPECT_EQ(read_file(folder / "a"), "short");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(File, AReaderOfTheOldFileKeepsIt) {
  const Folder folder;
  write_file(folder / "a", "old");
  const int before = ::open((folder / "a").c_str(), O_RDONLY);
  write_file(folder / "a", "new");
  char content[3] = {};
  EXPECT_EQ(::read(before, content, 3), 3);
  EXPECT_EQ(std::string(content, 3), "old");
  ::close(before);
}

TEST(File, AFailedWriteLeavesNoTemporary) {
  const Folder folder;
  std::filesystem::create_directory(folder / "taken");  // a file cannot be renamed onto a folder
  EXPECT_CONTAINS(failure_of([&] { write_file(folder / "taken", "x"); }), "taken");
  EXPECT_EQ(folder.entries(), 1u);
}

size_t open_descriptors() {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

TEST(File, AFailedWriteLeavesNoDescriptorOpen) {
  const size_t before = open_descriptors();
  // Writing to /dev/full fails; the temporary file is a link to it.
  const Folder folder;
  const std::string temporary = (folder / "a") + ".tmp." + std::to_string(::getpid());
  std::filesystem::create_symlink("/dev/full", temporary);
  EXPECT_CONTAINS(failure_of([&] { write_file(folder / "a", "x"); }), "No space left");
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(File, AnUnsyncedOneReplacesToo) {
  const Folder folder;
  for (const char* content : {"old", "new"}) {
    NewFile file(folder / "a");
    file.write(content);
    file.commit_unsynced();
    EXPECT_EQ(read_file(folder / "a"), content);
  }
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AppendedFile, GrowsAtItsEnd) {
  const Folder folder;
  for (const char* content : {"a\n", "b\n"}) {
    AppendedFile file(folder / "log");
    file.write(content);
    file.write("c\n");
    file.sync();
  }
  EXPECT_EQ(read_file(folder / "log"), "a\nc\nb\nc\n");
}

TEST(AppendedFile, FailuresNameThePathAndTheReason) {
  const Folder folder;
  write_file(folder / "file", "x");
  const std::string message = failure_of([&] { AppendedFile file(folder / "file/log"); });
  EXPECT_CONTAINS(message, folder / "file/log");
  EXPECT_CONTAINS(message, "Not a directory");
  AppendedFile full("/dev/full");
  EXPECT_CONTAINS(failure_of([&] { full.write("x"); }), "cannot write '/dev/full': No space left");
}

TEST(File, WritingBelowAFileIsAFailureThatNamesThePath) {
  const Folder folder;
  write_file(folder / "file", "x");
  const std::string message = failure_of([&] { write_file(folder / "file/a", "x"); });
  EXPECT_CONTAINS(message, folder / "file/a");
  EXPECT_CONTAINS(message, "Not a directory");
}

TEST(FileStamp, DiffersOnceAFileIsWritten) {
  const Folder folder;
  EXPECT_EQ(stamp_of(folder / "a"), FileStamp{});
  write_file(folder / "a", "1");
  const FileStamp first = stamp_of(folder / "a");
  EXPECT_NE(first, FileStamp{});
  EXPECT_EQ(stamp_of(folder / "a"), first);
  write_file(folder / "b", "2");  // of the same size, at almost the same time
  std::filesystem::rename(folder / "b", folder / "a");
  EXPECT_NE(stamp_of(folder / "a"), first);
}

TEST(DropLastLines, KeepsAllUpToALineThatStays) {
  const Folder folder;
  const auto left = [&](const std::string& text, size_t from = 0) {
    write_file(folder / "a", text);
    drop_last_lines(folder / "a", from, [](const std::string& line) { return line != "keep"; });
    return read_file(folder / "a");
  };
  EXPECT_EQ(left("1\nkeep\n2\n\n3\n"), "1\nkeep\n");
  EXPECT_EQ(left("1\nkeep\n2\nkee"), "1\nkeep\n");
  EXPECT_EQ(left("1\nkeep\n"), "1\nkeep\n");
  EXPECT_EQ(left("1\n2\n"), "");
  EXPECT_EQ(left("1\n2\n", 2), "1\n");
  EXPECT_EQ(left("\n\n"), "");
  EXPECT_EQ(left("keep"), "");
  EXPECT_EQ(left(""), "");
  EXPECT_CONTAINS(failure_of([&] { drop_last_lines(folder / "none", 0, [](const auto&) { return true; }); }), "none");
}

TEST(File, ReadingWhatIsNotThereNamesThePathAndTheReason) {
  const Folder folder;
  const std::string message = failure_of([&] { read_file(folder / "none"); });
  EXPECT_CONTAINS(message, folder / "none");
  EXPECT_CONTAINS(message, "No such file");
}

TEST(File, ReadingAFolderIsAFailure) {
  const Folder folder;
  EXPECT_CONTAINS(failure_of([&] { read_file(folder.path()); }), "folder");
}

TEST(File, ReadingAnEndlessChainOfLinksIsAFailure) {
  const Folder folder;
  std::filesystem::create_symlink("loop", folder / "loop");
  EXPECT_CONTAINS(failure_of([&] { read_file(folder / "loop"); }), "loop");
}

TEST(File, AReadErrorIsNoEmptyFile) {
  // The first page of a process is never mapped, so reading it always fails.
  EXPECT_CONTAINS(failure_of([] { read_file("/proc/self/mem"); }), "/proc/self/mem");
}

TEST(PathWithin, IsTheNameOfAFileInTheFolder) {
  const Folder folder;
  EXPECT_EQ(path_within(folder.path(), "a.b"), folder / "a.b");
  for (const char* name : {"", ".", "..", "/etc/passwd", "../a", "b/a", "b/../a", "b/"}) {
    EXPECT_CONTAINS(failure_of([&] { path_within(folder.path(), name); }), "must be the name of a file");
  }
}

TEST(PathWithin, FollowsLinksInsideOfTheFolderOnly) {
  namespace fs = std::filesystem;
  const Folder folder, outer;
  fs::create_directories(folder / "model/sub");
  write_file(folder / "model/sub/a", "x");
  write_file(folder / "b", "x");
  fs::create_symlink("sub/a", folder / "model/inside");
  fs::create_symlink("../b", folder / "model/beside");
  fs::create_symlink(folder / "b", folder / "model/absolute");
  fs::create_symlink("beside", folder / "model/chain");
  fs::create_symlink("lost", folder / "model/none");
  EXPECT_EQ(read_file(path_within(folder / "model", "inside")), "x");
  for (const char* name : {"beside", "absolute", "chain"}) {
    const std::string message = failure_of([&] { path_within(folder / "model", name); });
    EXPECT_CONTAINS(message, folder / "model/" + name);
    EXPECT_CONTAINS(message, "a symbolic link out of its folder, to '" + fs::canonical(folder / "b").string());
  }
  EXPECT_CONTAINS(failure_of([&] { path_within(folder / "model", "none"); }), "No such file");
  fs::create_directory_symlink(folder / "model", outer / "link");
  EXPECT_EQ(read_file(path_within(outer / "link", "inside")), "x") << "the folder itself may be a link";
}

TEST(PathWithin, FollowsTheLinksOfAHubCache) {
  namespace fs = std::filesystem;
  const Folder cache;
  fs::create_directories(cache / "snapshots/1a2b");
  fs::create_directories(cache / "blobs");
  write_file(cache / "blobs/77", "x");
  write_file(cache / "other", "x");
  fs::create_symlink("../../blobs/77", cache / "snapshots/1a2b/weights");
  fs::create_symlink("../../other", cache / "snapshots/1a2b/other");
  EXPECT_EQ(read_file(path_within(cache / "snapshots/1a2b", "weights")), "x");
  EXPECT_CONTAINS(failure_of([&] { path_within(cache / "snapshots/1a2b", "other"); }), "out of its folder");
}

TEST(MakeWritableFolder, MakesParentsAndAcceptsWhatIsThere) {
  const Folder folder;
  make_writable_folder(folder / "a/b/c");
  make_writable_folder(folder / "a/b/c/");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b/c"));
}

TEST(MakeWritableFolder, AFileInTheWayIsAFailure) {
  const Folder folder;
  write_file(folder / "file", "x");
  EXPECT_CONTAINS(failure_of([&] { make_writable_folder(folder / "file"); }), folder / "file");
  EXPECT_CONTAINS(failure_of([&] { make_writable_folder(folder / "file/a"); }), folder / "file/a");
  // An executable file would pass a check of the permission bits.
  ::chmod((folder / "file").c_str(), 0755);
  EXPECT_CONTAINS(failure_of([&] { make_writable_folder(folder / "file"); }), folder / "file");
}

}  // namespace
}  // namespace klab
