/* Entry: where every rewritten system call arrives (see trampoline.h).
 *
 * In: rcx = the trampoline's `real`; everything else as the program had it before its `syscall`.
 * Out: to `real` with every register and flag as it came (the call is not the stack's), or to
 * `real + 2` with the result in rax, rcx and r11 as the kernel leaves them (where it goes on,
 * the flags), and everything else as it came: general registers, flags, vector and mask registers.
 *
 * It runs on the program's stack, below the red zone, as a signal handler would. What it keeps is in
 * its frame only, so that a handler may come at any instruction and enter again, and may leave by
 * siglongjmp. To an unwinder it is a function that the site called: the frame's return address is
 * the instruction behind the site, so that pthread_cancel and debuggers pass through.
 *
 * userstack_rewrite_concerns is compiled without vector registers; only when it says yes are they
 * saved, by hand: xsave costs fifteen times as much.
 */
#define RED_ZONE 128
#define CFA 144            /* from rbp */
#define FLAGS -8
#define REAL -16
#define NUMBER -24
#define ARGUMENTS -72      /* rdi rsi rdx r10 r8 r9 */
#define DIRECTION_FLAG 4   /* in the flags' second byte */
#define SMALL_STACK_BIT 62 /* of the number: kFromSmallStack */
#define RESERVED 0x10000   /* kReserved */
#define OVERFLOW_FLAG 8

#include "shim/rewrite/vectors.inc"

        .section .note.GNU-stack, "", @progbits
        .text
        .globl  userstack_rewrite_entry
        .hidden userstack_rewrite_entry, userstack_rewrite_concerns, userstack_rewrite_call
        .hidden userstack_rewrite_vectors
        .type   userstack_rewrite_entry, @function
        .p2align 6
userstack_rewrite_entry:
        .cfi_startproc
        .cfi_undefined rip
        lea     -RED_ZONE(%rsp), %rsp
        .cfi_adjust_cfa_offset RED_ZONE
        pushq   -8(%rcx)
        .cfi_adjust_cfa_offset 8
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        mov     %rsp, %rbp
        .cfi_def_cfa rbp, CFA
        .cfi_offset rbp, -CFA
        .cfi_offset rip, -CFA + 8
        pushfq
        push    %rcx
        push    %rax
        push    %r9
        push    %r8
        push    %r10
        push    %rdx
        push    %rsi
        push    %rdi
        testb   $DIRECTION_FLAG, FLAGS+1(%rbp)
        jnz     .Lclear_direction
.Lask:
        mov     %rax, %rdi
        mov     %rsp, %rsi
        and     $-64, %rsp
        call    userstack_rewrite_concerns
        test    %al, %al
        jnz     .Lours

/* Back, with the registers that the frame holds. */
.Lpass:
        mov     FLAGS(%rbp), %r11
        movb    FLAGS(%rbp), %ah
        movb    FLAGS+1(%rbp), %al
        testb   $DIRECTION_FLAG, %al
        jnz     .Lset_direction
.Lflags:
        and     $OVERFLOW_FLAG, %al
        add     $0x78, %al              /* 0x78 + 8 overflows, 0x78 does not */
        sahf                            /* nothing below changes a flag */
        lea     ARGUMENTS(%rbp), %rsp
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %r10
        pop     %r8
        pop     %r9
        pop     %rax
        pop     %rcx
        mov     (%rbp), %rbp
        .cfi_remember_state
        .cfi_def_cfa rsp, CFA - FLAGS
        .cfi_restore rbp
        lea     CFA-FLAGS(%rsp), %rsp
        .cfi_def_cfa rsp, 0
        .cfi_undefined rip
        jmp     *%rcx
        .cfi_restore_state

.Lclear_direction:
        cld
        jmp     .Lask
.Lset_direction:
        std
        jmp     .Lflags

/* The call may be the stack's: rax = result, rdx = Answer::handled. */
.Lours:
        mov     NUMBER(%rbp), %rdi
        lea     ARGUMENTS(%rbp), %rsi
        call_keeping_vectors userstack_rewrite_call
        test    %edx, %edx
        jz      .Lpass
        test    $1, %dl
        jz      .Lwatched
        mov     %rax, NUMBER(%rbp)
        addq    $2, REAL(%rbp)
        jmp     .Lpass
.Lwatched:
        addq    $8, REAL(%rbp)          /* the stub's second `syscall` (stubs.h) */
        jmp     .Lpass
        .cfi_endproc
        .size   userstack_rewrite_entry, . - userstack_rewrite_entry

/* The same for code whose stacks are too small for us, which is Go's: on a stack of this thread's
 * own, without a byte written to the program's. Flags are not kept: there a call changes them.
 *
 * userstack_rewrite_stack is the top of what is free of the thread's stack; 0: it has none, and the
 * call is the kernel's. One instruction reserves a part, so that a handler which comes at any place
 * and enters again takes the next; it gives back what it took before it returns.
 */
        .globl  userstack_rewrite_entry_small
        .hidden userstack_rewrite_entry_small, userstack_rewrite_stack
        .type   userstack_rewrite_entry_small, @function
        .p2align 6
userstack_rewrite_entry_small:
        mov     userstack_rewrite_stack@gottpoff(%rip), %r11
        cmpq    $0, %fs:(%r11)
        je      .Lno_stack
        subq    $RESERVED, %fs:(%r11)
        mov     %fs:(%r11), %r11
        mov     %rsp, RESERVED-8(%r11)
        lea     RESERVED-8(%r11), %rsp
        push    %rcx
        bts     $SMALL_STACK_BIT, %rax
        lea     .Lsmall_pass(%rip), %rcx
        jmp     userstack_rewrite_entry
.Lno_stack:
        jmp     *%rcx

        .p2align 4
        .quad   0
        .quad   0                       /* an unwinder ends here */
.Lsmall_pass:
        jmp     .Lsmall_real            /* two bytes: an answered call comes to what follows */
        jmp     .Lsmall_answered
        .p2align 3                      /* and one whose child is to be watched here */
        btr     $SMALL_STACK_BIT, %rax
        pop     %rcx
        lea     8(%rcx), %rcx
        jmp     .Lsmall_back
.Lsmall_answered:
        pop     %rcx
        lea     2(%rcx), %rcx
        jmp     .Lsmall_back
.Lsmall_real:
        btr     $SMALL_STACK_BIT, %rax
        pop     %rcx
.Lsmall_back:
        mov     userstack_rewrite_stack@gottpoff(%rip), %r11
        pop     %rsp
        addq    $RESERVED, %fs:(%r11)
        jmp     *%rcx
        .size   userstack_rewrite_entry_small, . - userstack_rewrite_entry_small

/* What the processor has: 0 xmm, 1 ymm, 2 zmm and masks of 64 bits (entry.cc sets it). */
        .bss
        .globl  userstack_rewrite_vectors
        .p2align 2
        .type   userstack_rewrite_vectors, @object
        .size   userstack_rewrite_vectors, 4
userstack_rewrite_vectors:
        .zero   4
