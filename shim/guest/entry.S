/* Entry: how a static program's thread comes to us and goes back (see thread.h).
 *
 * userstack_guest_entry: rcx = the trampoline's `real`; everything else as the guest had it before
 * its `syscall`. Nothing is written to its stack (goroutines have a few hundred bytes, and musl frees
 * the stack that it runs on). Where it goes on every register is as the kernel leaves it but the
 * arithmetic flags, which no caller of a system call relies on.
 *
 * No instruction here may be interrupted by a handler of the guest while mode is host: such handlers
 * are put off (userstack_guest_put_off), and run where the thread comes back (deliver).
 */
#define MODE 0             /* and the selector, one byte on */
#define SELECTOR 1
#define PUT_OFF 4
#define BLOCKED_MASK 8
#define HOST_STACK 16
#define HOST_FS 24
#define GUEST_FS 32
#define GUEST_RSP 40
#define ALTERNATE 48
#define ALTERNATE_SIZE 56
#define NEXT_DELIVERY 64
#define HOST_RETURN 80
#define FRAME_SIZE 112
#define FRAME_ARGUMENTS 48
#define HOST 0x0000
#define GUEST 0x0101
#define RED_ZONE 128

/* Delivery */
#define D_MASK 8
#define D_RDI 16
#define D_RSI 24
#define D_RDX 32
#define D_R10 40
#define D_R8 48
#define D_R9 56
#define D_RAX 64
#define D_R11 72
#define D_RSP 80
#define D_TARGET 88
#define D_BUSY 96

#define SYS_RT_SIGPROCMASK 14
#define SYS_RT_SIGRETURN 15
#define SIG_SETMASK 2

#include "shim/rewrite/vectors.inc"

/* The registers of the frame at rbp, and the guest's stack. r11 = where it goes on. */
        .macro  pop_frame
        mov     %rbp, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %r10
        pop     %r8
        pop     %r9
        pop     %rax
        pop     %r11
        mov     %gs:GUEST_RSP, %rsp
        .endm

        .section .note.GNU-stack, "", @progbits
        .text
        .hidden userstack_guest_entry, userstack_guest_concerns, userstack_guest_call
        .hidden userstack_guest_run, userstack_guest_leave, userstack_guest_signal
        .hidden userstack_guest_put_off, userstack_guest_requeue, userstack_guest_special
        .hidden userstack_guest_terminate, userstack_guest_handlers, userstack_rewrite_vectors

        .globl  userstack_guest_entry
        .type   userstack_guest_entry, @function
        .p2align 6
userstack_guest_entry:
        .cfi_startproc
        .cfi_undefined rip
        movw    $HOST, %gs:MODE
        mov     %rsp, %gs:GUEST_RSP
        mov     %rsp, %r11
        sub     %gs:ALTERNATE, %r11
        cmp     %gs:ALTERNATE_SIZE, %r11
        jb      .Lon_alternate
        mov     %gs:HOST_STACK, %rsp
.Lhave_stack:
        push    %rcx
        push    %rax
        push    %r9
        push    %r8
        push    %r10
        push    %rdx
        push    %rsi
        push    %rdi
        push    %rbp
        push    %rbx
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, %rbp
        and     $-64, %rsp
        cld
        mov     %rax, %rdi
        lea     FRAME_ARGUMENTS(%rbp), %rsi
        call    userstack_guest_concerns
        test    %al, %al
        jnz     .Lours

/* Back with the registers of the frame at rbp. */
.Lback:
        pop_frame
        movw    $GUEST, %gs:MODE
        /* What was put off before this instruction is still to be delivered; after it nothing is. */
        mov     %gs:PUT_OFF, %ecx
        jrcxz   1f
        jmp     .Ldeliver
1:      jmp     *%r11

.Lon_alternate:
        lea     -RED_ZONE(%rsp), %rsp
        jmp     .Lhave_stack

/* The call may be ours. */
.Lours:
        xor     %r12d, %r12d
        mov     %rbp, %r11
        sub     %gs:ALTERNATE, %r11
        cmp     %gs:ALTERNATE_SIZE, %r11
        jae     1f
        sub     $64, %rsp               /* the mask */
        mov     %rsp, %r12
        lea     .Lall_signals(%rip), %rsi
        mov     %rsp, %rdx
        call    .Lset_mask
        mov     %gs:HOST_STACK, %rsp
1:      mov     %r12, %gs:BLOCKED_MASK
        rdfsbase %r11
        mov     %r11, %gs:GUEST_FS
        mov     %gs:HOST_FS, %r11
        wrfsbase %r11
        mov     %rbp, %rdi
        call_keeping_vectors userstack_guest_call
        mov     %gs:GUEST_FS, %r11
        wrfsbase %r11
        mov     %eax, %ebx
        test    %r12, %r12
        jz      1f
        mov     %r12, %rsp              /* on the alternate stack, before a signal may come */
        mov     %r12, %rsi
        xor     %edx, %edx
        call    .Lset_mask
1:      cmp     $2, %ebx
        jne     .Lback
        pop_frame
        mov     %gs:NEXT_DELIVERY, %rcx
        mov     %r11, D_R11(%rcx)
        lea     .Lagain(%rip), %r11
        jmp     .Ldeliver_then

/* In guest mode, r11 = where to go on, and signals were put off: all are blocked. */
.Ldeliver:
        movw    $HOST, %gs:MODE
        mov     %gs:NEXT_DELIVERY, %rcx
        mov     %r11, D_R11(%rcx)
        lea     .Lgo_on(%rip), %r11
.Ldeliver_then:
        mov     %r11, D_TARGET(%rcx)
        mov     %rax, D_RAX(%rcx)
        mov     %rdi, D_RDI(%rcx)
        mov     %rsi, D_RSI(%rcx)
        mov     %rdx, D_RDX(%rcx)
        mov     %r10, D_R10(%rcx)
        mov     %r8, D_R8(%rcx)
        mov     %r9, D_R9(%rcx)
        mov     %rsp, D_RSP(%rcx)
        mov     %gs:HOST_STACK, %rsp
        mov     %rcx, %rdi
        push    %rcx
        push    %rcx
        call    userstack_guest_requeue
        pop     %rcx
        mov     D_R8(%rcx), %r8
        mov     D_R9(%rcx), %r9
        mov     D_R10(%rcx), %r10
        mov     D_RSP(%rcx), %rsp
        mov     %rcx, %rsi
        movw    $GUEST, %gs:MODE
        mov     $SIG_SETMASK, %edi
        xor     %edx, %edx
        mov     $8, %r10d
        mov     $SYS_RT_SIGPROCMASK, %eax
        syscall                         /* handlers run here */
        add     $D_MASK, %rsi
        mov     $SYS_RT_SIGPROCMASK, %eax
        syscall                         /* and here */
        movq    $0, D_BUSY-D_MASK(%rsi)
        mov     D_RAX-D_MASK(%rsi), %rax
        mov     D_RDI-D_MASK(%rsi), %rdi
        mov     D_RDX-D_MASK(%rsi), %rdx
        mov     D_R10-D_MASK(%rsi), %r10
        mov     D_R11-D_MASK(%rsi), %r11
        mov     D_TARGET-D_MASK(%rsi), %rcx
        mov     D_RSI-D_MASK(%rsi), %rsi
        jmp     *%rcx
.Lgo_on:
        jmp     *%r11
.Lagain:
        mov     %r11, %rcx
        jmp     userstack_guest_entry
        .cfi_endproc
        .size   userstack_guest_entry, . - userstack_guest_entry

/* rsi = the mask, rdx = where the old one goes, or 0. */
.Lset_mask:
        mov     $SIG_SETMASK, %edi
        mov     $8, %r10d
        mov     $SYS_RT_SIGPROCMASK, %eax
        syscall
        ret

        .globl  userstack_guest_run
        .type   userstack_guest_run, @function
userstack_guest_run:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, HOST_RETURN(%rsi)
        cmpq    $0, HOST_STACK(%rsi)
        jne     1f
        lea     -RED_ZONE(%rsp), %rax
        and     $-64, %rax
        mov     %rax, HOST_STACK(%rsi)
1:      movw    $HOST, MODE(%rsi)
        wrgsbase %rsi
        rdfsbase %rax
        mov     %rax, HOST_FS(%rsi)
        mov     HOST_STACK(%rsi), %rsp
        sub     $FRAME_SIZE, %rsp
        mov     %rsp, %rbp
        mov     %rdi, %rax
        mov     %rsi, %rdx
        mov     %rax, %rsi
        mov     %rsp, %rdi
        mov     $FRAME_SIZE / 8, %ecx
        rep movsq
        mov     GUEST_FS(%rdx), %rax
        wrfsbase %rax
        jmp     .Lback
        .size   userstack_guest_run, . - userstack_guest_run

        .globl  userstack_guest_leave
        .type   userstack_guest_leave, @function
userstack_guest_leave:
        mov     HOST_RETURN(%rdi), %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .size   userstack_guest_leave, . - userstack_guest_leave

/* A signal for the guest: rdi = its number, rsi = siginfo, rdx = ucontext. */
        .globl  userstack_guest_signal
        .type   userstack_guest_signal, @function
userstack_guest_signal:
        cmpb    $0, %gs:MODE
        je      .Lput_off
        mov     %edi, %ecx
        shl     $4, %rcx
        lea     userstack_guest_handlers(%rip), %rax
        mov     (%rax,%rcx), %r11
        cmpq    $0, 8(%rax,%rcx)
        jne     .Lspecial
.Lhandler:
        movb    $1, %gs:SELECTOR
        xor     %eax, %eax
        jmp     *%r11
.Lspecial:
        movb    $0, %gs:SELECTOR
        push    %rdi
        push    %rsi
        push    %rdx
        call    userstack_guest_special
        pop     %rdx
        pop     %rsi
        pop     %rdi
        mov     %rax, %r11
        cmp     $1, %rax
        ja      .Lhandler
        je      .Lterminate
        movb    $1, %gs:SELECTOR
        ret                             /* ignored by now; to the guest's own restorer */
.Lterminate:
        movw    $HOST, %gs:MODE
        mov     %gs:HOST_FS, %r11
        wrfsbase %r11
        mov     %gs:HOST_STACK, %rsp
        call    userstack_guest_terminate
.Lput_off:
        mov     %rsp, %rbx
        and     $-16, %rsp
        call    userstack_guest_put_off
        lea     8(%rbx), %rsp
        mov     $SYS_RT_SIGRETURN, %eax
        syscall
        .size   userstack_guest_signal, . - userstack_guest_signal

        .section .rodata
        .p2align 3
.Lall_signals:
        .quad   -1
