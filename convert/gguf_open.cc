#include "base/error.h"
#include "convert/checkpoint_parts.h"
namespace attar {
Checkpoint open_gguf(const std::filesystem::path& path) { fail("open model: ", path.string(), ": GGUF comes next"); }
void write_gguf(const Checkpoint&, const std::filesystem::path& file, const GgufOptions&) { fail("write ", file.string()); }
}
