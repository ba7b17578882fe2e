#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace attar {
namespace {

constexpr std::size_t kWriteBuffer = std::size_t{1} << 20;
[[maybe_unused]] constexpr std::uint64_t kDiskStep = std::uint64_t{1} << 24;

std::string reason() { return std::strerror(errno); }

template <class... Parts>
[[noreturn]] void fail_to_write(const fs::path& path, const Parts&... parts) {
  throw WriteError(cat("cannot write ", path.string(), parts..., ": ", reason()));
}

fs::path partial_name(const fs::path& path) {
  fs::path name = path.has_filename() ? path : path.parent_path();
  name += cat(".partial-", ::getpid());
  return name;
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) fail("cannot open ", path.string(), ": ", reason());
  const auto refuse = [&](const std::string& why) {
    ::close(fd_);
    fail(why);
  };
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) refuse(cat("cannot read ", path.string(), ": not a regular file"));
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) refuse(cat("cannot read ", path.string(), ": the file is empty"));
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd_, 0);
  if (data == MAP_FAILED) refuse(cat("cannot map ", path.string(), " (", size_, " bytes): ", reason()));
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  ::munmap(const_cast<std::byte*>(data_), size_);
  ::close(fd_);
}

void MappedFile::read(std::size_t offset, std::size_t size, std::byte* out) const {
  while (size > 0) {
    const ssize_t got = ::pread(fd_, out, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read ", path_.string(), ": ", reason());
    if (got == 0) fail("cannot read ", path_.string(), ": it ends at byte ", offset, ", and had ", size_, " when it was opened");
    out += got, offset += static_cast<std::size_t>(got), size -= static_cast<std::size_t>(got);
  }
}

void MappedFile::release(ByteView part) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

OutputFile::OutputFile(const fs::path& path) : path_(path), partial_(partial_name(path)) {
  if (fs::is_directory(path)) fail("cannot write ", path.string(), ": it is a folder");
  fd_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("cannot write ", path.string(), ": ", reason());
  buffer_.reserve(kWriteBuffer);
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(partial_.c_str());
}

void OutputFile::write_through(ByteView bytes) {
  const std::uint64_t before = written_;
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_to_write(path_, " after ", written_, " bytes");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    written_ += static_cast<std::uint64_t>(written);
  }
#ifdef SYNC_FILE_RANGE_WRITE
  // The disk begins with what is there, so that commit() has little left to wait for.
  if (const std::uint64_t from = before / kDiskStep * kDiskStep, to = written_ / kDiskStep * kDiskStep; to > from)
    (void)::sync_file_range(fd_, static_cast<off64_t>(from), static_cast<off64_t>(to - from), SYNC_FILE_RANGE_WRITE);
#endif
}

void OutputFile::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void OutputFile::write(ByteView bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() > kWriteBuffer) flush();
  if (bytes.size() >= kWriteBuffer) return write_through(bytes);
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void OutputFile::commit() {
  flush();
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail_to_write(path_);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0 || ::rename(partial_.c_str(), path_.c_str()) != 0) {
    const int why = errno;
    ::unlink(partial_.c_str());
    errno = why;
    fail_to_write(path_);
  }
}

OutputFolder::OutputFolder(const fs::path& path) : path_(path), partial_(partial_name(path)) {
  std::error_code error;
  if (fs::exists(path, error)) {
    if (!fs::is_directory(path)) fail("cannot write folder ", path.string(), ": a file of that name exists");
    if (!fs::is_empty(path) && !fs::exists(path / "config.json"))
      fail("cannot write folder ", path.string(), ": it exists and holds something else than a model; name another");
  }
  fs::remove_all(partial_, error);
  if (!fs::create_directory(partial_, error)) fail("cannot write folder ", path.string(), ": ", error.message());
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(partial_, ignored);
}

void OutputFolder::commit() {
  std::error_code error;
#ifdef RENAME_EXCHANGE
  // The old folder and the new one change places: there is no moment without either.
  if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0) {
    committed_ = true;
    fs::remove_all(partial_, error);
    return;
  }
#endif
  // There is no old one, or the file system cannot do that.
  fs::remove_all(path_, error);
  if (!error) fs::rename(partial_, path_, error);
  if (error) fail("cannot write folder ", path_.string(), ": ", error.message());
  committed_ = true;
}

ScratchFile::ScratchFile() : path_("memory"), fd_(::memfd_create("attar", MFD_CLOEXEC)) {
  if (fd_ < 0) fail("cannot make a file in memory: ", reason());
}

ScratchFile::ScratchFile(fs::path path, int flags) : path_(std::move(path)), fd_(::open(path_.c_str(), flags | O_CLOEXEC, 0666)) {
  if (fd_ < 0) fail("cannot open ", path_.string(), ": ", reason());
}

ScratchFile::ScratchFile(const fs::path& path) : ScratchFile(path, O_RDWR | O_CREAT | O_TRUNC) {}
ScratchFile ScratchFile::open(const fs::path& path) { return {path, O_RDWR}; }

ScratchFile::~ScratchFile() {
  if (fd_ >= 0) ::close(fd_);
}

void ScratchFile::write(std::uint64_t offset, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_to_write(path_, " at byte ", offset);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void ScratchFile::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail("cannot read ", path_.string(), " at byte ", offset, ": ", got == 0 ? "it ends there" : reason());
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

std::uint64_t ScratchFile::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) fail("cannot read ", path_.string(), ": ", reason());
  return static_cast<std::uint64_t>(info.st_size);
}

void ScratchFile::sync() {
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail_to_write(path_);
}

std::string read_text_file(const fs::path& path) {
  if (fs::is_directory(path)) fail("cannot read ", path.string(), ": it is a folder");
  std::ifstream in(path, std::ios::binary);
  if (!in) fail("cannot open ", path.string(), ": ", reason());
  std::ostringstream text;
  text << in.rdbuf();
  if (in.bad()) fail("cannot read ", path.string(), ": ", reason());
  return std::move(text).str();
}

void write_text_file(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace attar
