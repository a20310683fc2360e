// XdpDevice and what goes wrong: interfaces that go away, full rings, processes that die, kernels
// and users without what it takes. The interface is clean afterwards, and the message names the
// cause.
#include <errno.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <set>

#include "backend/xdp.h"
#include "tests/backend/xdp_fixture.h"

namespace userstack::backend {
namespace {

constexpr size_t kMany = 16;

// Runs `work` in a child; its exit status.
template <typename Work>
int InChild(Work work) {
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// From now on `number` fails with `error`, for socket() only when its family is AF_XDP.
bool FailSystemCall(uint32_t number, int error) {
  const auto first_argument = static_cast<uint32_t>(offsetof(seccomp_data, args[0]));
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offsetof(seccomp_data, nr))),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, first_argument),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_XDP, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool Says(const OpenedDevice& opened, const char* what) {
  if (opened.device == nullptr && opened.error.rfind("USERSTACK_DEV=xdp:", 0) == 0 &&
      opened.error.find(what) != std::string::npos &&
      opened.error.find('\n') == std::string::npos) {
    return true;
  }
  fprintf(stderr, "said: %s\n", opened.error.c_str());
  return false;
}

Device::Sent TransmitOne(Device& device, TestCore& core, size_t length) {
  Frame* frame = core.MakeFrame(UdpFrame(MacAddress::Broadcast(), 0x0a636301, length, 1), 42);
  const Device::Sent sent = device.Transmit(*core, *frame);
  core->frames.Release(frame);
  return sent;
}

// Every frame is in exactly one place. The device must be at rest, and `device` its umem's only
// user: it is looked at through a second mapping.
void ExpectAllFramesAccountedFor(Device& device) {
  int descriptors[kMany];
  const size_t count = device.Descriptors(descriptors, kMany);
  ASSERT_EQ(count, 5u);
  XdpShared shared;
  ASSERT_EQ(pread(descriptors[0], &shared, sizeof shared, 0), static_cast<ssize_t>(sizeof shared));
  XdpQueue queue;
  queue.descriptor = descriptors[3];
  queue.shared = &shared.queues[0];
  ASSERT_EQ(queue.Map(), 0);
  const uint64_t mask = ~uint64_t{shared.frame_bytes - 1};
  std::multiset<uint64_t> receive;
  for (uint32_t i = *queue.fill.consumer; i != *queue.fill.producer; ++i) {
    receive.insert(queue.fill.at(i) & mask);
  }
  for (uint32_t i = *queue.receive.consumer; i != *queue.receive.producer; ++i) {
    receive.insert(queue.receive.at(i).addr & mask);
  }
  std::multiset<uint64_t> transmit;
  for (uint32_t i = *queue.completion.consumer; i != *queue.completion.producer; ++i) {
    transmit.insert(queue.completion.at(i) & mask);
  }
  for (uint32_t i = *queue.transmit.consumer; i != *queue.transmit.producer; ++i) {
    transmit.insert(queue.transmit.at(i).addr & mask);
  }
  for (uint32_t i = shared.queues[0].unused; i < kXdpRingEntries; ++i) {
    transmit.insert(uint64_t{kXdpRingEntries + i} * shared.frame_bytes);
  }
  for (uint32_t i = 0; i < kXdpRingEntries; ++i) {
    EXPECT_EQ(receive.count(uint64_t{i} * shared.frame_bytes), 1u) << "receive frame " << i;
    EXPECT_EQ(transmit.count(uint64_t{kXdpRingEntries + i} * shared.frame_bytes), 1u)
        << "transmit frame " << i;
  }
  queue.Unmap();
}

class XdpFaultTest : public XdpTest {};

TEST_F(XdpFaultTest, AnInterfaceThatIsDeletedIsGoneAndSaysSo) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  EXPECT_EQ(TransmitOne(*device, core, 100), Device::Sent::kDone);
  device->Kick();
  ASSERT_TRUE(RunCommand("ip link del x0"));
  EXPECT_FALSE(device->gone());
  Packet* packet = nullptr;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(device->Receive(*core, &packet, 1, 2, Instant{}), 0u);
  EXPECT_TRUE(device->gone());
  EXPECT_NE(device->Problem(), nullptr);
  EXPECT_EQ(TransmitOne(*device, core, 100), Device::Sent::kDropped);
}

// Whoever sleeps is woken by it, sends nothing, and need not look again and again.
TEST_F(XdpFaultTest, ASleeperLearnsThatTheInterfaceIsDeleted) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  Packet* packet = nullptr;
  EXPECT_EQ(device->Receive(*core, &packet, 1, 2, Instant{}), 0u);
  device->BeforeSleep();
  pollfd wait[] = {{device->wait_descriptor(), POLLIN, 0}, {device->side_descriptor(), POLLIN, 0}};
  ASSERT_EQ(poll(wait, 2, 0), 0);
  ASSERT_TRUE(RunCommand("ip link del x0"));
  ASSERT_EQ(poll(wait, 2, 5000), 1);
  EXPECT_EQ(device->Receive(*core, &packet, 1, 2, Instant{}), 0u);
  EXPECT_TRUE(device->gone());
}

TEST_F(XdpFaultTest, ASleeperGoesOnThroughDownAndUp) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  Tapped wire("k0");
  pollfd wait[] = {{device->wait_descriptor(), POLLIN, 0}, {device->side_descriptor(), POLLIN, 0}};
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(RunCommand("ip link set x0 down"));
    ASSERT_EQ(poll(wait, 2, 5000), 1);
    Packet* packet = nullptr;
    device->BeforeSleep();
    EXPECT_EQ(device->Receive(*core, &packet, 1, 2, Instant{}), 0u);
    EXPECT_FALSE(device->gone());
    EXPECT_EQ(poll(wait, 2, 0), 0);  // said once
    ASSERT_TRUE(RunCommand("ip link set x0 up"));
    // The other end's kernel drops what it sends until it has noticed the carrier, in its own time.
    std::set<size_t> lengths;
    for (int i = 0; i < 100 && lengths.size() < 2; ++i) {
      ASSERT_TRUE(wire.Send(UdpFrame(device->capabilities().mac, kOurV4, 100, 1)));
      ASSERT_TRUE(wire.Send(UdpFrame(MacAddress::Broadcast(), 0xffffffff, 200, 1)));
      for (const auto& frame : ReceiveAll(*device, *core, 50)) lengths.insert(frame.size());
    }
    EXPECT_EQ(lengths, (std::set<size_t>{100, 200}));
  }
}

// It goes down, which wakes the sleeper, and away a moment later, which does not.
TEST_F(XdpFaultTest, WhoLookedBetweenDownAndDeletedLearnsOfBoth) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  ASSERT_TRUE(RunCommand("ip link set x0 down"));
  Packet* packet = nullptr;
  EXPECT_EQ(device->Receive(*core, &packet, 1, 2, Instant{}), 0u);
  EXPECT_EQ(device->Problem(), nullptr);
  ASSERT_TRUE(RunCommand("ip link del x0"));
  EXPECT_NE(device->Problem(), nullptr);
  EXPECT_TRUE(device->gone());
}

// Frames that were used go back in batches; before anybody sleeps, all of them.
TEST_F(XdpFaultTest, ASocketIsNotReadableForWhatWasTakenFromIt) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  Tapped wire("k0");
  const MacAddress mac = device->capabilities().mac;
  pollfd wait{device->wait_descriptor(), POLLIN, 0};
  for (size_t count = 1; count < 200; count += 33) {
    for (size_t i = 0; i < count; ++i) ASSERT_TRUE(wire.Send(UdpFrame(mac, kOurV4, 100, 1)));
    for (size_t i = 0; i < count; ++i) {
      Packet* packet = nullptr;
      ASSERT_EQ(device->Receive(*core, &packet, 1, 2, Instant{}), 1u);
      core->packets.Release(packet);
    }
    device->BeforeSleep();
    EXPECT_EQ(poll(&wait, 1, 0), 0) << count;
    ExpectAllFramesAccountedFor(*device);
  }
}

TEST_F(XdpFaultTest, ASenderLearnsThatTheInterfaceIsDeleted) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  ASSERT_TRUE(RunCommand("ip link del x0"));
  EXPECT_EQ(TransmitOne(*device, core, 100), Device::Sent::kDone);
  EXPECT_TRUE(device->Kick());
  EXPECT_TRUE(device->gone());
}

TEST_F(XdpFaultTest, WhatIsSentWhileTheInterfaceIsDownLeavesWhenItIsUpAgain) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  Tapped wire("k0");
  ASSERT_TRUE(RunCommand("ip link set x0 down"));
  for (uint32_t i = 0; i < kXdpRingEntries; ++i) {
    ASSERT_EQ(TransmitOne(*device, core, 100), Device::Sent::kDone) << i;
  }
  EXPECT_TRUE(device->Kick());
  EXPECT_EQ(TransmitOne(*device, core, 100), Device::Sent::kBusy);  // the ring is full
  pollfd room{device->wait_descriptor(), POLLOUT, 0};
  EXPECT_EQ(poll(&room, 1, 0), 0);  // and does not say that it were not
  ASSERT_TRUE(RunCommand("ip link set x0 up"));
  EXPECT_EQ(TransmitOne(*device, core, 101), Device::Sent::kDone);
  EXPECT_TRUE(device->Kick());
  const auto like = UdpFrame(MacAddress::Broadcast(), 0x0a636301, 100, 1);
  EXPECT_EQ(wire.Receive({like.begin(), like.begin() + 14}, kXdpRingEntries + 1).size(),
            kXdpRingEntries + 1);
  AwaitCarrier("k0");
  ASSERT_TRUE(wire.Send(UdpFrame(device->capabilities().mac, kOurV4, 100, 1)));
  EXPECT_EQ(ReceiveAll(*device, *core).size(), 1u);
  ExpectAllFramesAccountedFor(*device);
}

TEST_F(XdpFaultTest, ARingThatNobodyEmptiesLosesWhatDoesNotFitAndNothingElse) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  Tapped wire("k0");
  const MacAddress mac = device->capabilities().mac;
  for (uint32_t i = 0; i < 3 * kXdpRingEntries; ++i) {
    auto in = UdpFrame(mac, kOurV4, 100, 1);
    Store32(&in[50], i);
    wire.Send(in);
  }
  const auto all = ReceiveAll(*device, *core);
  EXPECT_EQ(all.size(), kXdpRingEntries);
  uint32_t expected = 0;
  for (const auto& frame : all) EXPECT_EQ(Load32(&frame[50]), expected++);
  ASSERT_TRUE(wire.Send(UdpFrame(mac, kOurV4, 200, 1)));
  const auto later = ReceiveAll(*device, *core);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].size(), 200u);
  ExpectAllFramesAccountedFor(*device);
}

TEST_F(XdpFaultTest, WithoutBuffersFramesAreLostAndTheirMemoryIsNot) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core(64 << 10, 64 << 10);
  Tapped wire("k0");
  std::vector<Buffer*> held;
  while (Buffer* buffer = core->buffers.Allocate(BufferClass::kSmall)) held.push_back(buffer);
  const MacAddress mac = device->capabilities().mac;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(wire.Send(UdpFrame(mac, kOurV4, 100, 1)));
  EXPECT_TRUE(ReceiveAll(*device, *core).empty());
  EXPECT_EQ(core->counters.Get(Counter::kDeviceInNoBuffer), 10u);
  EXPECT_EQ(core->packets.live(), 0u);
  for (Buffer* buffer : held) core->buffers.Release(buffer);
  ASSERT_TRUE(wire.Send(UdpFrame(mac, kOurV4, 100, 1)));
  EXPECT_EQ(ReceiveAll(*device, *core).size(), 1u);
  ExpectAllFramesAccountedFor(*device);
}

TEST_F(XdpFaultTest, TheInterfaceIsCleanWhenTheLastProcessEndsHoweverItEnds) {
  EXPECT_FALSE(ProgramAttached());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto device = OpenXdp();
    const char told = device != nullptr && ProgramAttached() ? 'y' : 'n';
    if (write(ready[1], &told, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char told = 0;
  ASSERT_EQ(read(ready[0], &told, 1), 1);
  EXPECT_EQ(told, 'y');
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  bool attached = true;
  for (int i = 0; i < 200 && attached; ++i) {  // the kernel takes a link down in the background
    attached = ProgramAttached();
    if (attached) usleep(10000);
  }
  EXPECT_FALSE(attached);
  auto device = OpenXdp();
  EXPECT_TRUE(device);
}

TEST_F(XdpFaultTest, ASecondStackOnTheSameInterfaceIsRefusedInOneLine) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  EXPECT_TRUE(Says(OpenDevice("xdp:x0,queue=0", {}),
                   "the device is busy: an XDP program on this interface belongs to another"));
  EXPECT_TRUE(ProgramAttached());
}

TEST_F(XdpFaultTest, TheInterfaceOfTheDefaultRouteIsRefusedUnlessForced) {
  ASSERT_TRUE(
      RunCommand("ip addr add 10.99.99.9/24 dev x0 && ip route add default via 10.99.99.1"));
  EXPECT_TRUE(Says(OpenDevice("xdp:x0", {}), "default route"));
  EXPECT_FALSE(ProgramAttached());
  EXPECT_EQ(OpenDevice("xdp:x0,force", {}).error, "");
  ASSERT_TRUE(
      RunCommand("ip route del default && ip addr add fd99::9/64 dev x0 nodad && "
                 "ip route add ::/0 via fd99::1"));
  EXPECT_TRUE(Says(OpenDevice("xdp:x0", {}), "default route"));
}

TEST_F(XdpFaultTest, AKernelWithoutAfXdpOrBpfIsNamed) {
  EXPECT_EQ(InChild([] {
              if (!FailSystemCall(SYS_socket, EAFNOSUPPORT)) return 9;
              return Says(OpenDevice("xdp:x0", {}), "this kernel has no AF_XDP") ? 0 : 1;
            }),
            0);
  EXPECT_EQ(InChild([] {
              if (!FailSystemCall(SYS_bpf, ENOSYS)) return 9;
              return Says(OpenDevice("xdp:x0", {}), "this kernel has no bpf()") ? 0 : 1;
            }),
            0);
  EXPECT_FALSE(ProgramAttached());
}

TEST_F(XdpFaultTest, AMissingCapabilityIsNamed) {
  EXPECT_EQ(InChild([] {
              if (setresuid(65534, 65534, 65534) != 0) return 9;
              return Says(OpenDevice("xdp:x0", {}), "CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF") ? 0
                                                                                              : 1;
            }),
            0);
  EXPECT_FALSE(ProgramAttached());
}

TEST_F(XdpFaultTest, BadSpecificationsAreOneLine) {
  EXPECT_TRUE(Says(OpenDevice("xdp:", {}), "expected xdp:IFACE"));
  EXPECT_TRUE(Says(OpenDevice("xdp:x0,fast", {}), "\"fast\" is not known; expected xdp:IFACE"));
  EXPECT_TRUE(Says(OpenDevice("xdp:nothing", {}), "there is no such interface; expected one of"));
  EXPECT_TRUE(Says(OpenDevice("xdp:x0,zerocopy", {}), "no zero-copy; leave \",zerocopy\" out"));
}

TEST_F(XdpFaultTest, AnInterfaceWithoutNeighboursIsRefused) {
  ASSERT_TRUE(RunCommand("ip link set lo up && ip tuntap add n0 mode tun && ip link set n0 up"));
  for (const char* spec : {"xdp:lo", "xdp:lo,force", "xdp:n0"}) {
    EXPECT_TRUE(Says(OpenDevice(spec, {}), "this interface is not Ethernet; expected one with"));
  }
}

TEST_F(XdpFaultTest, AnMtuBeyondTheInterfacesIsRefused) {
  DeviceOptions options;
  options.mtu = 1501;
  EXPECT_EQ(OpenDevice("xdp:x0", options).error.find("USERSTACK_MTU=1501: expected 576 to 1500"),
            0u);
  EXPECT_FALSE(ProgramAttached());
  options.mtu = 1500;
  EXPECT_EQ(OpenDevice("xdp:x0", options).error, "");
}

TEST_F(XdpFaultTest, MemoryThatMayNotBeLockedIsNamed) {
  EXPECT_EQ(InChild([] {
              if (!FailSystemCall(SYS_setsockopt, ENOBUFS)) return 9;
              return Says(OpenDevice("xdp:x0", {}), "a larger ulimit -l, or CAP_IPC_LOCK") ? 0 : 1;
            }),
            0);
}

// The process that registered the frames and bound the socket dies; another goes on with both.
TEST_F(XdpFaultTest, AnotherProcessGoesOnWithTheQueueOfOneThatWasKilled) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  int descriptors[kMany];
  const size_t count = device->Descriptors(descriptors, kMany);
  int inherited[kMany];
  for (size_t i = 0; i < count; ++i) inherited[i] = dup(descriptors[i]);
  OpenedDevice adopted = AdoptDevice("xdp:x0", {}, inherited, count);
  ASSERT_EQ(adopted.error, "");
  EXPECT_EQ(adopted.device->capabilities().mac, device->capabilities().mac);
  device.reset();  // the mapping that was registered is gone
  TestCore core;
  Tapped wire("k0");
  const auto in = UdpFrame(adopted.device->capabilities().mac, kOurV4, 1000, 1);
  ASSERT_TRUE(wire.Send(in));
  const auto all = ReceiveAll(*adopted.device, *core);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0], in);
  EXPECT_EQ(TransmitOne(*adopted.device, core, 100), Device::Sent::kDone);
  EXPECT_TRUE(adopted.device->Kick());
  const auto like = UdpFrame(MacAddress::Broadcast(), 0x0a636301, 100, 1);
  EXPECT_EQ(wire.Receive(like, 1).size(), 1u);
  EXPECT_TRUE(ProgramAttached());
  const int wrong[] = {dup(0), dup(0), dup(0), dup(0), dup(0)};
  EXPECT_NE(AdoptDevice("xdp:x0", {}, wrong, 5).error, "");
  EXPECT_NE(AdoptDevice("xdp:k0", {}, descriptors, 5).error, "");
}

// Killed at any instant, while both directions are busy: no frame is lost or in two places.
TEST_F(XdpFaultTest, NoDeathLosesAFrame) {
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  TestCore core;
  Tapped wire("k0");
  const MacAddress mac = device->capabilities().mac;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      for (;;) {
        TransmitOne(*device, core, 100);
        Packet* packets[64];
        const size_t taken = device->Receive(*core, packets, 64, 2, Instant{});
        for (size_t i = 0; i < taken; ++i) core->packets.Release(packets[i]);
        device->Kick();
      }
    }
    for (int i = 0; i < 200 + round * 10; ++i) wire.Send(UdpFrame(mac, kOurV4, 100, 1));
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    Packet* packet = nullptr;
    while (device->Receive(*core, &packet, 1, 2, Instant{}) == 1) core->packets.Release(packet);
    EXPECT_EQ(TransmitOne(*device, core, 100), Device::Sent::kDone);
    EXPECT_TRUE(device->Kick());
    wire.Receive({0xff}, 1 << 20, 0);
    ExpectAllFramesAccountedFor(*device);
    if (HasFailure()) return;
  }
}

// Rings in ordinary memory, stopped between each two stores.
TEST(XdpIntentTest, ADeathBetweenTwoCursorsIsCompletedOrUndone) {
  for (const bool moved : {false, true}) {
    uint32_t fill_producer = 100 + (moved ? 8 : 0);
    uint32_t receive_consumer = 40;
    uint32_t transmit_producer = 7 + (moved ? 5 : 0);
    uint32_t completion_consumer = 0xffffffff;
    XdpQueueShared shared;
    shared.unused = 10;
    shared.receive = {1, 100, 40, 8, 0};
    shared.transmit = {1, 7, 0xffffffff, 3, 12};
    XdpQueue queue;
    queue.shared = &shared;
    queue.fill.producer = &fill_producer;
    queue.receive.consumer = &receive_consumer;
    queue.transmit.producer = &transmit_producer;
    queue.completion.consumer = &completion_consumer;
    for (int again = 0; again < 2; ++again) {
      queue.FinishIntents();
      EXPECT_EQ(receive_consumer, moved ? 48u : 40u);
      EXPECT_EQ(completion_consumer, moved ? 2u : 0xffffffffu);
      EXPECT_EQ(shared.unused, moved ? 12u : 10u);
      EXPECT_EQ(shared.receive.active + shared.transmit.active, 0u);
    }
  }
}

}  // namespace
}  // namespace userstack::backend
