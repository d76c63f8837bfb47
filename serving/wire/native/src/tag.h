// What a completion queue gives back.
#pragma once

#include <exception>
#include <memory>
#include <utility>

namespace lstm_front {

class Tag {
 public:
  virtual ~Tag() = default;
  virtual void Done(bool ok) noexcept = 0;
};

// Calls a member function of an object, which it keeps alive until then. What that throws, the object is told (`Failed`).
template <class Object>
class MemberTag final : public Tag {
 public:
  using Member = void (Object::*)(bool ok);
  explicit MemberTag(Member member) : member_(member) {}

  Tag* Of(std::shared_ptr<Object> object) {
    object_ = std::move(object);
    return this;
  }
  // It will not come.
  void Drop() { object_.reset(); }
  void Done(bool ok) noexcept override {
    const std::shared_ptr<Object> object = std::move(object_);
    try {
      (object.get()->*member_)(ok);
    } catch (const std::exception& error) {
      object->Failed(error);
    }
  }

 private:
  const Member member_;
  std::shared_ptr<Object> object_;
};

}  // namespace lstm_front
