// What a completion queue gives back.
#pragma once

#include <memory>
#include <utility>

namespace lstm_front {

class Tag {
 public:
  virtual ~Tag() = default;
  virtual void Done(bool ok) = 0;
};

// Calls a member function of an object, which it keeps alive until then.
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
  void Done(bool ok) override {
    const std::shared_ptr<Object> object = std::move(object_);
    (object.get()->*member_)(ok);
  }

 private:
  const Member member_;
  std::shared_ptr<Object> object_;
};

}  // namespace lstm_front
