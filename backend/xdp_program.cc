// XdpProgram: assembled here, because a hundred instructions need neither a compiler nor a loader.
#include "backend/xdp_program.h"

#include <linux/if_link.h>

#include <algorithm>
#include <cerrno>

#include "backend/xdp_kernel.h"

namespace userstack::backend {
namespace {

constexpr uint32_t kAddressLimit = 1024;            // addresses and groups of one stack fit
constexpr uint32_t kProgramHasFragments = 1u << 5;  // BPF_F_XDP_HAS_FRAGS

constexpr int16_t kEtherType = 12;
constexpr int16_t kIpv4Destination = 30;
constexpr int16_t kArpSender = 28;
constexpr int16_t kArpTarget = 38;
constexpr int16_t kIpv6NextHeader = 20;
constexpr int16_t kIpv6Destination = 38;
constexpr int16_t kIcmpv6Type = 54;
constexpr int16_t kNdpTarget = 62;
constexpr int kIcmpv6 = 58;
constexpr int kNeighborSolicitation = 135;
constexpr int kNeighborAdvertisement = 136;
// As a 16-bit load sees them on a little-endian machine.
constexpr int kEtherIpv4 = 0x0008;
constexpr int kEtherIpv6 = 0xdd86;
constexpr int kEtherArp = 0x0608;

constexpr uint8_t kR0 = 0, kR1 = 1, kR2 = 2, kR3 = 3, kContext = 6, kData = 7, kEnd = 8,
                  kStack = 10;
constexpr int16_t kKey = -16;  // the looked-up address, on the stack

enum Label : uint8_t { kIpv4, kIpv6, kArp, kNdp, kTake, kPass, kLabelCount };

class Assembler {
 public:
  Assembler(int addresses, int queues) : addresses_(addresses), queues_(queues) { Assemble(); }
  const bpf_insn* code() const { return code_; }
  uint32_t count() const { return count_; }

 private:
  void Emit(uint8_t code, uint8_t to, uint8_t from, int16_t offset, int32_t value) {
    code_[count_++] = {code, static_cast<uint8_t>(to & 15), static_cast<uint8_t>(from & 15), offset,
                       value};
  }
  void Load(uint8_t size, uint8_t to, uint8_t from, int16_t offset) {
    Emit(BPF_LDX | BPF_MEM | size, to, from, offset, 0);
  }
  void StoreKey(uint8_t size, int16_t at, uint8_t from) {
    Emit(BPF_STX | BPF_MEM | size, kStack, from, static_cast<int16_t>(kKey + at), 0);
  }
  void Move(uint8_t to, uint8_t from) { Emit(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
  void MoveValue(uint8_t to, int32_t v) { Emit(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, v); }
  void Add(uint8_t to, int32_t v) { Emit(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, v); }
  void LoadMap(uint8_t to, int fd) {
    Emit(BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, fd);
    Emit(0, 0, 0, 0, 0);
  }
  void Call(int32_t function) { Emit(BPF_JMP | BPF_CALL, 0, 0, 0, function); }
  void Exit() { Emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }
  void Jump(uint8_t condition, uint8_t left, int32_t value, Label to) {
    jumps_[jump_count_++] = {count_, to};
    Emit(static_cast<uint8_t>(BPF_JMP | condition), left, 0, 0, value);
  }
  void Place(Label label) { labels_[label] = count_; }

  // Passes the frame when it has fewer than `bytes`.
  void Need(int32_t bytes) {
    Move(kR2, kData);
    Add(kR2, bytes);
    jumps_[jump_count_++] = {count_, kPass};
    Emit(BPF_JMP | BPF_JGT | BPF_X, kR2, kEnd, 0, 0);
  }
  // Takes the frame when the key is an address of the stack's.
  void TakeIfOurs() {
    LoadMap(kR1, addresses_);
    Move(kR2, kStack);
    Add(kR2, kKey);
    Call(BPF_FUNC_map_lookup_elem);
    Jump(BPF_JNE, kR0, 0, kTake);
  }
  void TakeIfOursV4(int16_t at) {
    Load(BPF_W, kR3, kData, at);
    StoreKey(BPF_W, 12, kR3);
    TakeIfOurs();
  }
  void TakeIfOursV6(int16_t at) {
    Load(BPF_DW, kR3, kData, at);
    StoreKey(BPF_DW, 0, kR3);
    Load(BPF_DW, kR3, kData, static_cast<int16_t>(at + 8));
    StoreKey(BPF_DW, 8, kR3);
    TakeIfOurs();
  }

  void Assemble();
  void Resolve();

  struct Reference {
    uint32_t at;
    Label to;
  };
  int addresses_;
  int queues_;
  bpf_insn code_[96] = {};
  uint32_t count_ = 0;
  uint32_t labels_[kLabelCount] = {};
  Reference jumps_[32] = {};
  uint32_t jump_count_ = 0;
};

void Assembler::Assemble() {
  Move(kContext, kR1);
  Load(BPF_W, kData, kContext, offsetof(xdp_md, data));
  Load(BPF_W, kEnd, kContext, offsetof(xdp_md, data_end));
  Need(14);
  MoveValue(kR3, 0);  // the key of an IPv4 address begins ::ffff:
  StoreKey(BPF_DW, 0, kR3);
  MoveValue(kR3, static_cast<int32_t>(0xffff0000));
  StoreKey(BPF_W, 8, kR3);
  Load(BPF_H, kR3, kData, kEtherType);
  Jump(BPF_JEQ, kR3, kEtherIpv4, kIpv4);
  Jump(BPF_JEQ, kR3, kEtherIpv6, kIpv6);
  Jump(BPF_JEQ, kR3, kEtherArp, kArp);
  Place(kPass);
  MoveValue(kR0, XDP_PASS);
  Exit();

  Place(kIpv4);
  Need(34);
  TakeIfOursV4(kIpv4Destination);
  Jump(BPF_JA, 0, 0, kPass);

  // For us, or about an address of ours (RFC 5227 2.4: somebody else claims it).
  Place(kArp);
  Need(42);
  TakeIfOursV4(kArpTarget);
  TakeIfOursV4(kArpSender);
  Jump(BPF_JA, 0, 0, kPass);

  // Solicited-node groups may be shared with the kernel's addresses, and advertisements go to all
  // nodes: the target decides.
  Place(kIpv6);
  Need(54);
  TakeIfOursV6(kIpv6Destination);
  Load(BPF_B, kR3, kData, kIpv6NextHeader);
  Jump(BPF_JNE, kR3, kIcmpv6, kPass);
  Need(kNdpTarget + 16);
  Load(BPF_B, kR3, kData, kIcmpv6Type);
  Jump(BPF_JEQ, kR3, kNeighborSolicitation, kNdp);
  Jump(BPF_JNE, kR3, kNeighborAdvertisement, kPass);
  Place(kNdp);
  TakeIfOursV6(kNdpTarget);
  Jump(BPF_JA, 0, 0, kPass);

  // A queue that the stack does not have passes what it gets.
  Place(kTake);
  LoadMap(kR1, queues_);
  Load(BPF_W, kR2, kContext, offsetof(xdp_md, rx_queue_index));
  MoveValue(kR3, XDP_PASS);
  Call(BPF_FUNC_redirect_map);
  Exit();
  Resolve();
}

void Assembler::Resolve() {
  for (uint32_t i = 0; i < jump_count_; ++i) {
    const Reference& jump = jumps_[i];
    code_[jump.at].off = static_cast<int16_t>(static_cast<int32_t>(labels_[jump.to]) -
                                              static_cast<int32_t>(jump.at) - 1);
  }
}

long CreateMap(bpf_map_type type, uint32_t key, uint32_t entries, OwnedDescriptor* out) {
  bpf_attr attributes{};
  attributes.map_type = type;
  attributes.key_size = key;
  attributes.value_size = sizeof(uint32_t);
  attributes.max_entries = entries;
  const long result = Bpf(BPF_MAP_CREATE, attributes);
  if (result >= 0) *out = OwnedDescriptor(static_cast<int>(result));
  return result < 0 ? result : 0;
}

long UpdateMap(int map, const void* key, uint32_t value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(key);
  attributes.value = reinterpret_cast<uint64_t>(&value);
  return Bpf(BPF_MAP_UPDATE_ELEM, attributes);
}

long DeleteFromMap(int map, const IpAddress& key) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(&key);
  return Bpf(BPF_MAP_DELETE_ELEM, attributes);
}

// The key after `key` (null: the first). False at the end.
bool NextKey(int map, const IpAddress* key, IpAddress* next) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(key);
  attributes.next_key = reinterpret_cast<uint64_t>(next);
  return Bpf(BPF_MAP_GET_NEXT_KEY, attributes) == 0;
}

long LoadProgram(const Assembler& assembler, uint32_t flags) {
  static constexpr char kLicense[] = "Apache-2.0";  // the helpers used are open to any licence
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_XDP;
  attributes.expected_attach_type = BPF_XDP;
  attributes.insns = reinterpret_cast<uint64_t>(assembler.code());
  attributes.insn_cnt = assembler.count();
  attributes.license = reinterpret_cast<uint64_t>(kLicense);
  attributes.prog_flags = flags;
  constexpr char kName[] = "userstack";
  std::copy(std::begin(kName), std::end(kName), attributes.prog_name);
  return Bpf(BPF_PROG_LOAD, attributes);
}

}  // namespace

long XdpProgram::Load(uint32_t queue_limit, const char** what) {
  *what = "bpf map";
  long result = CreateMap(BPF_MAP_TYPE_HASH, sizeof(IpAddress), kAddressLimit, &addresses_);
  if (result == 0) {
    result = CreateMap(BPF_MAP_TYPE_XSKMAP, sizeof(uint32_t), queue_limit, &queues_);
  }
  if (result < 0) return result;
  *what = "XDP program";
  const Assembler assembler(addresses_.get(), queues_.get());
  result = LoadProgram(assembler, kProgramHasFragments);
  if (result == -EINVAL) result = LoadProgram(assembler, 0);  // before Linux 5.18
  if (result < 0) return result;
  program_ = OwnedDescriptor(static_cast<int>(result));
  return 0;
}

long XdpProgram::Attach(unsigned interface, XdpMode mode) {
  bpf_attr attributes{};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program_.get());
  attributes.link_create.target_ifindex = interface;
  attributes.link_create.attach_type = BPF_XDP;
  attributes.link_create.flags = mode == XdpMode::kNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  const long result = Bpf(BPF_LINK_CREATE, attributes);
  if (result < 0) return result;
  link_ = OwnedDescriptor(static_cast<int>(result));
  return 0;
}

long XdpProgram::AddQueue(uint32_t queue, int socket) {
  return UpdateMap(queues_.get(), &queue, static_cast<uint32_t>(socket));
}

long ReplaceAddresses(int descriptor, const IpAddress* addresses, size_t count) {
  const auto wanted = [&](const IpAddress& a) {
    return std::find(addresses, addresses + count, a) != addresses + count;
  };
  IpAddress key;
  bool more = NextKey(descriptor, nullptr, &key);
  while (more) {
    IpAddress next;
    more = NextKey(descriptor, &key, &next);
    if (!wanted(key)) DeleteFromMap(descriptor, key);
    key = next;
  }
  for (size_t i = 0; i < count; ++i) {
    const long result = UpdateMap(descriptor, &addresses[i], 1);
    if (result < 0) return result;
  }
  return 0;
}

}  // namespace userstack::backend
