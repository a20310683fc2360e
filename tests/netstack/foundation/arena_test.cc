// arena: the region, pools, lists, hash tables.
#include "netstack/arena/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "netstack/arena/hash_table.h"
#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/random.h"
#include "tests/netstack/foundation/memory.h"

namespace userstack {
namespace {

struct Item {
  explicit Item(int v = 0) : value(v) {}
  ListNode node;
  HashNode<Item> hash_node;
  int value;
  uint64_t key = 0;
};
using ItemList = List<Item, &Item::node>;

TEST(Arena, HandsOutAlignedZeroedMemoryUntilItIsExhausted) {
  TestMemory memory(size_t{1} << 16);
  Arena* arena = Arena::Format(memory.data(), memory.size());
  const uint8_t* last_end = nullptr;
  size_t given = 0;
  for (size_t i = 0;; ++i) {
    const size_t alignment = size_t{1} << (i % 8);
    auto* p = static_cast<uint8_t*>(arena->Allocate(100 + i % 7, alignment));
    if (p == nullptr) break;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
    EXPECT_TRUE(arena->Contains(p) && arena->Contains(p + 99));
    EXPECT_TRUE(std::all_of(p, p + 100, [](uint8_t b) { return b == 0; }));
    EXPECT_TRUE(last_end == nullptr || p >= last_end);
    std::memset(p, 0xee, 100 + i % 7);
    last_end = p + 100 + i % 7;
    given += 100 + i % 7;
  }
  EXPECT_GT(given, size_t{1} << 15);
  EXPECT_LE(arena->used(), arena->size());
  EXPECT_EQ(arena->Allocate(~size_t{0}, 8), nullptr);
  EXPECT_EQ(arena->Allocate(~size_t{0} - 4096, 4096), nullptr);
  EXPECT_FALSE(arena->Contains(static_cast<uint8_t*>(memory.data()) + memory.size()));
}

TEST(Pool, StopsAtItsLimitAndRecycles) {
  TestMemory memory(size_t{1} << 20);
  Arena* arena = Arena::Format(memory.data(), memory.size());
  Pool<Item> pool;
  pool.Initialize(arena, 100, 16);
  std::vector<Item*> items;
  std::set<Item*> distinct;
  for (int i = 0; i < 100; ++i) {
    items.push_back(pool.New(i));
    ASSERT_NE(items.back(), nullptr);
    distinct.insert(items.back());
  }
  EXPECT_EQ(distinct.size(), 100u);
  EXPECT_EQ(pool.New(), nullptr);
  const size_t used = arena->used();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(items[static_cast<size_t>(i)]->value, i);
  for (Item* item : items) pool.Delete(item);
  EXPECT_EQ(pool.live(), 0u);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(distinct.contains(pool.New(i)));
  EXPECT_EQ(arena->used(), used);
}

TEST(Pool, SaysNoWhenTheArenaIsExhausted) {
  TestMemory memory(4096);
  Arena* arena = Arena::Format(memory.data(), memory.size());
  Pool<Item> pool;
  pool.Initialize(arena, 1000, 8);
  int made = 0;
  while (pool.New() != nullptr) ++made;
  EXPECT_GT(made, 8);
  EXPECT_LT(made, 1000);
  EXPECT_EQ(pool.New(), nullptr);
}

TEST(List, EqualsAVectorUnderRandomOperations) {
  Random random(3);
  std::vector<Item> items(20);
  ItemList list;
  std::vector<Item*> model;
  for (int step = 0; step < 20000; ++step) {
    Item* item = &items[random.Below(items.size())];
    const auto at = std::find(model.begin(), model.end(), item);
    ASSERT_EQ(item->node.linked(), at != model.end());
    if (at != model.end()) {
      ItemList::Remove(item);
      model.erase(at);
    } else {
      const size_t position = random.Below(model.size() + 1);
      const auto where = model.begin() + static_cast<ptrdiff_t>(position);
      switch (random.Below(4)) {
        case 0:
          list.PushBack(item);
          model.push_back(item);
          break;
        case 1:
          list.PushFront(item);
          model.insert(model.begin(), item);
          break;
        case 2:
          if (where == model.end()) break;
          list.InsertBefore(*where, item);
          model.insert(where, item);
          break;
        case 3:
          if (where == model.end()) break;
          list.InsertAfter(*where, item);
          model.insert(where + 1, item);
          break;
      }
    }
    if (random.Below(50) == 0 && !model.empty()) {
      ASSERT_EQ(list.PopFront(), model.front());
      model.erase(model.begin());
    }
    ASSERT_EQ(list.empty(), model.empty());
    ASSERT_EQ(list.front(), model.empty() ? nullptr : model.front());
    ASSERT_EQ(list.back(), model.empty() ? nullptr : model.back());
    Item* walk = list.front();
    for (Item* expected : model) {
      ASSERT_EQ(walk, expected);
      walk = list.Next(walk);
    }
    ASSERT_EQ(walk, nullptr);
    walk = list.back();
    for (size_t i = model.size(); i-- > 0; walk = list.Previous(walk)) ASSERT_EQ(walk, model[i]);
  }
}

TEST(HashTable, EqualsAMultimapUnderRandomOperations) {
  TestMemory memory(size_t{1} << 16);
  Arena* arena = Arena::Format(memory.data(), memory.size());
  HashTable<Item, &Item::hash_node> table;
  ASSERT_TRUE(table.Initialize(arena, 8));
  Random random(4);
  std::vector<Item> items(64);
  std::multimap<uint64_t, Item*> model;
  for (int step = 0; step < 20000; ++step) {
    Item* item = &items[random.Below(items.size())];
    if (item->hash_node.linked) {
      table.Erase(item);
      for (auto it = model.lower_bound(item->key);; ++it) {
        ASSERT_TRUE(it != model.end());
        if (it->second != item) continue;
        model.erase(it);
        break;
      }
      table.Erase(item);  // a second time is nothing
    } else {
      item->key = random.Below(24) << 3;  // many share a bucket, some a hash
      table.Insert(item, item->key);
      model.emplace(item->key, item);
    }
    ASSERT_EQ(table.size(), model.size());
    const uint64_t key = random.Below(24) << 3;
    std::set<Item*> found;
    table.ForEachWithHash(key, [&](Item& i) { found.insert(&i); });
    std::set<Item*> expected;
    for (auto [it, end] = model.equal_range(key); it != end; ++it) expected.insert(it->second);
    ASSERT_EQ(found, expected);
    Item* one = table.Find(key, [&](const Item&) { return true; });
    ASSERT_EQ(one == nullptr, expected.empty());
    ASSERT_TRUE(one == nullptr || expected.contains(one));
  }
}

}  // namespace
}  // namespace userstack
