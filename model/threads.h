// Threads of LibTorch and of its BLAS.
#pragma once

namespace attar {

// Threads for LibTorch and its BLAS; warns loudly if the BLAS is the slow reference one.
void set_up_torch(int threads);

// LibTorch on one thread while the work around it is spread over all: the sums inside its BLAS depend on how many it has.
class OneTorchThread {
 public:
  OneTorchThread();
  ~OneTorchThread();
  OneTorchThread(const OneTorchThread&) = delete;
  OneTorchThread& operator=(const OneTorchThread&) = delete;

 private:
  int before_;
};

}  // namespace attar
