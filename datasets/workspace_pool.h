// Memory that encode() reuses from call to call, though it is const and many threads may call it at once.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace attar {

template <class T>
class WorkspacePool {
 public:
  // A workspace of one's own until it is destroyed.
  class Loan {
   public:
    Loan(WorkspacePool& pool, std::unique_ptr<T> item) : pool_(pool), item_(std::move(item)) {}
    ~Loan() {
      const std::lock_guard lock(pool_.mutex_);
      pool_.free_.push_back(std::move(item_));
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    T& operator*() { return *item_; }
    T* operator->() { return item_.get(); }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<T> item_;
  };

  Loan borrow() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return {*this, std::make_unique<T>()};
    auto item = std::move(free_.back());
    free_.pop_back();
    return {*this, std::move(item)};
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace attar
