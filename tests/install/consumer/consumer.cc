// A program outside the project that uses the installed package: block formats, tensors, checkpoints, tokenizers.
#include <convert/checkpoint.h>
#include <datasets/tokenizer.h>
#include <kernels_ref/types.h>

#include <cstdio>

int main(int argc, char** argv) {
  std::vector<float> weights(256, 0.5f), decoded(256);
  attar::Bytes row(attar::row_bytes(attar::Type::kQ4_K, weights.size()));
  attar::encode_row(attar::Type::kQ4_K, weights, {}, row);
  attar::decode_row(attar::Type::kQ4_K, row, decoded);
  if (argc < 2) return 2;
  const attar::Checkpoint model = attar::open_checkpoint(argv[1]);
  const attar::Tokenizer tokenizer(model.tokenizer);
  const auto ids = tokenizer.encode("One day, Tom had three apples.", false);
  std::printf("%.3f %zu %s\n", static_cast<double>(decoded[7]), model.tensors.size(), tokenizer.decode(ids).c_str());
}
