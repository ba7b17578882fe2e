// Files: mapped for reading, written under a temporary name and renamed when whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "base/bytes.h"

namespace attar {

namespace fs = std::filesystem;

// A read-only memory map of a whole file. Pages come in when touched and can be dropped by the system.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);  // throws Error: missing, a folder, unreadable, empty
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ByteView bytes() const { return {data_, size_}; }
  const fs::path& path() const { return path_; }
  // Copies bytes without mapping them: for a walk over a large file, whose pages would be looked at once. Throws Error: cut short since.
  void read(std::size_t offset, std::size_t size, std::byte* out) const;
  // Tells the system that these bytes will not be needed soon.
  void release(ByteView part) const;

 private:
  fs::path path_;
  int fd_ = -1;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A file being written. Data goes to `PATH.partial-PID`; commit() syncs and renames it to PATH. Destroyed without
// commit() it removes the partial file. Every failure throws an Error: no such folder, not writable; a disk that is full: a WriteError.
class OutputFile {
 public:
  explicit OutputFile(const fs::path& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(ByteView bytes);
  void write(std::string_view text) { write(as_bytes(text)); }
  std::uint64_t size() const { return size_; }
  void commit();

 private:
  void flush();
  void write_through(ByteView bytes);
  fs::path path_, partial_;
  int fd_ = -1;
  std::uint64_t size_ = 0, written_ = 0;  // with what is in the buffer, and without
  Bytes buffer_;
};

// A folder being written, in the same way: fill folder(), then commit() renames it to `path`. An existing folder at
// `path` is replaced only if it is empty or was written by Attar (holds config.json); anything else is an Error.
class OutputFolder {
 public:
  explicit OutputFolder(const fs::path& path);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const fs::path& folder() const { return partial_; }
  void commit();

 private:
  fs::path path_, partial_;
  bool committed_ = false;
};

// A file read and written at any place, from any thread. It is not mapped: what the system holds of it is cache, which it can take
// back, and no memory of the program.
class ScratchFile {
 public:
  ScratchFile();                                       // without a name, in memory
  explicit ScratchFile(const fs::path& path);          // made anew; throws Error
  static ScratchFile open(const fs::path& path);       // one that is there; throws Error
  ~ScratchFile();
  ScratchFile(ScratchFile&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  ScratchFile& operator=(ScratchFile&&) = delete;

  void write(std::uint64_t offset, ByteView bytes);              // throws WriteError
  void read(std::uint64_t offset, std::span<std::byte> bytes) const;  // throws Error, also past the end
  std::uint64_t size() const;
  void sync();  // to the disk; throws WriteError

 private:
  ScratchFile(fs::path path, int flags);
  fs::path path_;
  int fd_ = -1;
};

std::string read_text_file(const fs::path& path);                     // throws Error
void write_text_file(const fs::path& path, std::string_view text);    // whole or not at all; throws Error

}  // namespace attar
