// base: checksums, random numbers, hashes, sequence numbers, addresses, times, caller's memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "netstack/base/checksum.h"
#include "netstack/base/io.h"
#include "netstack/base/ip_address.h"
#include "netstack/base/random.h"
#include "netstack/base/sequence.h"
#include "netstack/base/time.h"

namespace userstack {
namespace {

// RFC 1071 1, word by word.
uint16_t PlainSum(const std::vector<uint8_t>& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    sum += i % 2 == 0 ? uint32_t{bytes[i]} << 8 : bytes[i];
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

std::vector<uint8_t> RandomBytes(Random* random, size_t size) {
  std::vector<uint8_t> bytes(size);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random->Next());
  return bytes;
}

TEST(Checksum, EqualsTheSumWordByWordAtEveryLengthAndOffset) {
  Random random(1);
  for (size_t size = 0; size < 200; ++size) {
    const std::vector<uint8_t> bytes = RandomBytes(&random, size);
    for (size_t offset = 0; offset < 4; ++offset) {
      std::vector<uint8_t> shifted(offset);
      shifted.insert(shifted.end(), bytes.begin(), bytes.end());
      ChecksumAccumulator sum;
      sum.Add(shifted.data() + offset, size);
      ASSERT_EQ(sum.Sum(), PlainSum(bytes)) << size;
    }
  }
}

TEST(Checksum, DoesNotDependOnHowTheBytesAreCut) {
  Random random(2);
  for (int round = 0; round < 2000; ++round) {
    const std::vector<uint8_t> bytes = RandomBytes(&random, random.Below(300));
    ChecksumAccumulator sum;
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = std::min<size_t>(random.Below(40), bytes.size() - at);
      sum.Add(bytes.data() + at, n);
      at += n;
    }
    ASSERT_EQ(sum.Sum(), PlainSum(bytes)) << "round " << round;
  }
}

TEST(Checksum, SurvivesCarriesFromSixtyFourKibibytesOfOnes) {
  const std::vector<uint8_t> ones(65536, 0xff);
  ChecksumAccumulator sum;
  for (int i = 0; i < 100; ++i) sum.Add(ones.data(), ones.size());
  EXPECT_EQ(sum.Sum(), 0xffff);
  EXPECT_EQ(sum.Checksum(), 0);
}

TEST(Checksum, OverDataWithItsChecksumIsZero) {
  // The example header of RFC 1071's errata and many textbooks.
  std::vector<uint8_t> header = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
                                 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};
  ChecksumAccumulator sum;
  sum.Add(header.data(), header.size());
  EXPECT_EQ(sum.Checksum(), 0xb861);
  Store16(&header[10], sum.Checksum());
  ChecksumAccumulator again;
  again.Add(header.data(), header.size());
  EXPECT_EQ(again.Checksum(), 0);
}

TEST(Checksum, PseudoHeaderFollowsTheFamily) {
  ChecksumAccumulator v4;
  v4.AddPseudoHeader(IpAddress::V4(0xc0a80001), IpAddress::V4(0xc0a800c7), 17, 0x1234);
  EXPECT_EQ(v4.Sum(), PlainSum({0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7, 0, 17, 0x12, 0x34}));
  std::vector<uint8_t> bytes(40);
  for (int i = 0; i < 32; ++i) bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(0x20 + i);
  const IpAddress source = IpAddress::V6FromBytes(bytes.data());
  const IpAddress destination = IpAddress::V6FromBytes(bytes.data() + 16);
  Store32(&bytes[32], 0x12345);
  Store32(&bytes[36], 6);
  ChecksumAccumulator v6;
  v6.AddPseudoHeader(source, destination, 6, 0x12345);
  EXPECT_EQ(v6.Sum(), PlainSum(bytes));
}

TEST(SipHash, EqualsTheReferenceVectors) {
  // Aumasson and Bernstein's vectors for SipHash-2-4: key 00..0f, messages of 0..n bytes.
  const SipKey key{0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
  std::vector<uint8_t> message;
  const uint64_t expected[] = {0x726fdb47dd0e0e31ull, 0x74f839c593dc67fdull, 0x0d6c8009d9a94f5aull,
                               0x85676696d7fb7e2dull, 0xcf2794e0277187b7ull, 0x18765564cd99a68dull,
                               0xcbc9466e58fee3ceull, 0xab0200f58b01d137ull, 0x93f5f5799a932462ull};
  for (const uint64_t hash : expected) {
    EXPECT_EQ(SipHash(key, message.data(), message.size()), hash) << message.size();
    message.push_back(static_cast<uint8_t>(message.size()));
  }
}

// SipHash-c-d byte by byte.
uint64_t PlainSipHash(int c, int d, const SipKey& key, const std::vector<uint8_t>& message) {
  SipState s(key);
  for (size_t i = 0; i <= message.size() / 8; ++i) {
    uint64_t word = i == message.size() / 8 ? uint64_t{message.size()} << 56 : 0;
    for (size_t j = i * 8; j < std::min(message.size(), i * 8 + 8); ++j) {
      word |= uint64_t{message[j]} << 8 * (j % 8);
    }
    s.v3 ^= word;
    for (int round = 0; round < c; ++round) s.Round();
    s.v0 ^= word;
  }
  s.v2 ^= 0xff;
  for (int round = 0; round < d; ++round) s.Round();
  return s.Result();
}

TEST(SipHash, OfATableHasOneAndThreeRounds) {
  const SipKey key{0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
  ASSERT_EQ(PlainSipHash(2, 4, key, {0}), 0x74f839c593dc67fdull) << "Aumasson and Bernstein's";
  ASSERT_EQ(PlainSipHash(1, 3, key, {}), 0xabac0158050fc4dcull) << "Aumasson and Bernstein's";
  std::vector<uint8_t> message;
  for (uint8_t i = 0; i < 36; ++i) message.push_back(i);
  uint64_t words[4];
  uint32_t tail;
  std::memcpy(words, message.data(), sizeof words);
  std::memcpy(&tail, message.data() + sizeof words, sizeof tail);
  EXPECT_EQ(TableHash<4>(key, {words[0], words[1], words[2], words[3]}, tail),
            PlainSipHash(1, 3, key, message));
}

TEST(SipHash, OfATableDependsOnEveryByteOfBothEnds) {
  const SipKey key{1, 2};
  const IpAddress a = IpAddress::V4(0x0a000001), b = IpAddress::V4(0x0a000002);
  const uint8_t other[16] = {0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const IpAddress c = IpAddress::V6FromBytes(other);
  std::vector<uint64_t> hashes = {HashOfPair(key, a, 1, b, 2), HashOfPair(key, b, 1, a, 2),
                                  HashOfPair(key, a, 2, b, 1), HashOfPair(key, a, 1, a, 2),
                                  HashOfPair(key, b, 1, b, 2), HashOfPair(key, c, 1, c, 2),
                                  HashOfPair(key, c, 1, a, 2), HashOfPair(key, a, 1, c, 2)};
  for (int i = 0; i < 16; ++i) {
    uint8_t changed[16];
    std::memcpy(changed, other, sizeof changed);
    changed[i] ^= 0x80;
    hashes.push_back(HashOfPair(key, IpAddress::V6FromBytes(changed), 1, c, 2));
    hashes.push_back(HashOfPair(key, c, 1, IpAddress::V6FromBytes(changed), 2));
  }
  std::sort(hashes.begin(), hashes.end());
  EXPECT_EQ(std::adjacent_find(hashes.begin(), hashes.end()), hashes.end());
}

TEST(Random, RepeatsItselfAndStaysBelowItsBound) {
  Random a(7), b(7), c(8);
  bool differs = false;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t x = a.Next();
    EXPECT_EQ(x, b.Next());
    differs |= x != c.Next();
  }
  EXPECT_TRUE(differs);
  std::vector<int> seen(10);
  for (int i = 0; i < 10000; ++i) ++seen[a.Below(10)];
  for (const int count : seen) EXPECT_NEAR(count, 1000, 150);
}

TEST(SeqNum, ComparesAcrossTheWrap) {
  const SeqNum before{0xfffffff0}, after{0x10};
  EXPECT_TRUE(before.Before(after));
  EXPECT_TRUE(after.After(before));
  EXPECT_FALSE(after.Before(before));
  EXPECT_EQ(after - before, 0x20u);
  EXPECT_EQ(before + 0x20, after);
  EXPECT_TRUE(after.InRange(before, 0x21));
  EXPECT_FALSE(after.InRange(before, 0x20));
  EXPECT_TRUE(before.AtOrBefore(before));
  EXPECT_EQ(Max(before, after), after);
  EXPECT_EQ(Min(before, after), before);
}

IpAddress V6(uint64_t high, uint64_t low) {
  uint8_t bytes[16];
  Store64(bytes, high);
  Store64(bytes + 8, low);
  return IpAddress::V6FromBytes(bytes);
}

TEST(IpAddress, TellsTheFamiliesAndTheirSpecialAddressesApart) {
  EXPECT_TRUE(IpAddress::V4(0).is_v4());
  EXPECT_TRUE(IpAddress::V4(0).is_unspecified());
  EXPECT_TRUE(IpAddress().is_v6());
  EXPECT_TRUE(IpAddress().is_unspecified());
  EXPECT_FALSE(IpAddress() == IpAddress::V4(0));
  EXPECT_TRUE(IpAddress::V4(0x7f123456).is_loopback());
  EXPECT_TRUE(V6(0, 1).is_loopback());
  EXPECT_FALSE(V6(0, 1).is_v4());
  EXPECT_TRUE(IpAddress::V4(0xe0000001).is_multicast());
  EXPECT_TRUE(IpAddress::V4(0xefffffff).is_multicast());
  EXPECT_FALSE(IpAddress::V4(0xf0000000).is_multicast());
  EXPECT_TRUE(V6(0xff02000000000000, 1).is_multicast());
  EXPECT_TRUE(V6(0xfe80000000000000, 1).is_link_local());
  EXPECT_TRUE(V6(0xfebf000000000000, 1).is_link_local());
  EXPECT_FALSE(V6(0xfec0000000000000, 1).is_link_local());
  EXPECT_TRUE(IpAddress::V4(0xa9fe0101).is_link_local());
  EXPECT_TRUE(IpAddress::V4Broadcast().is_limited_broadcast());
}

TEST(Prefix, ContainsByBitsOfItsOwnFamily) {
  struct Case {
    Prefix prefix;
    IpAddress address;
    bool inside;
  };
  const Case cases[] = {
      {{IpAddress::V4(0), 0}, IpAddress::V4(0x01020304), true},
      {{IpAddress::V4(0), 0}, V6(1, 1), false},
      {{IpAddress(), 0}, V6(1, 1), true},
      {{IpAddress(), 0}, IpAddress::V4(1), false},
      {{IpAddress::V4(0x0a000002), 24}, IpAddress::V4(0x0a0000ff), true},
      {{IpAddress::V4(0x0a000002), 24}, IpAddress::V4(0x0a000100), false},
      {{IpAddress::V4(0x0a000002), 31}, IpAddress::V4(0x0a000003), true},
      {{IpAddress::V4(0x0a000002), 32}, IpAddress::V4(0x0a000003), false},
      {{V6(0xfd00000000000000, 2), 64}, V6(0xfd00000000000000, ~0ull), true},
      {{V6(0xfd00000000000000, 2), 64}, V6(0xfd00000000000001, 2), false},
      {{V6(0xfd00000000000000, 2), 65}, V6(0xfd00000000000000, ~0ull), false},
      {{V6(0xfd00000000000000, 2), 128}, V6(0xfd00000000000000, 2), true},
      {{V6(0xfd00000000000000, 2), 128}, V6(0xfd00000000000000, 3), false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(c.prefix.Contains(c.address), c.inside) << &c - cases;
  }
}

TEST(Instant, SaturatesAtNever) {
  EXPECT_TRUE((Instant{5} + Duration::Infinite()).is_never());
  EXPECT_TRUE((Instant::Never() + Duration::Seconds(1)).is_never());
  EXPECT_EQ(Instant{5} + Duration::Nanoseconds(7), Instant{12});
}

TEST(IoCursor, CopiesAcrossPiecesAndStopsAtTheEnd) {
  uint8_t a[3] = {1, 2, 3}, b[1] = {9}, c[4] = {4, 5, 6, 7};
  const iovec entries[] = {{a, 3}, {b, 0}, {c, 4}};
  const IoVector io(entries, 3);
  EXPECT_EQ(io.Total(), 7u);
  uint8_t out[10] = {};
  IoCursor in(io);
  EXPECT_EQ(in.CopyIn(out, 2), 2u);
  EXPECT_EQ(in.CopyIn(out + 2, 8), 5u);
  EXPECT_EQ(in.CopyIn(out, 1), 0u);
  EXPECT_EQ(std::vector<uint8_t>(out, out + 7), (std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7}));
  const uint8_t fresh[10] = {11, 12, 13, 14, 15, 16, 17, 18};
  IoCursor to(io);
  EXPECT_EQ(to.CopyOut(fresh, 10), 7u);
  EXPECT_EQ(a[2], 13);
  EXPECT_EQ(b[0], 9);
  EXPECT_EQ(c[3], 17);
}

}  // namespace
}  // namespace userstack
