/* Stubs: the memory of stubs.h, and what the second `syscall` of a stub goes on to. */
        .section .note.GNU-stack, "", @progbits

/* To an unwinder a stub is a function that the site called: the caller's address is the stub's first
 * word, and the stack is as the site left it. */
        .bss
        .globl  userstack_rewrite_stubs, userstack_rewrite_stubs_end
        .hidden userstack_rewrite_stubs, userstack_rewrite_stubs_end
        .type   userstack_rewrite_stubs, @object
        .p2align 12
userstack_rewrite_stubs:
        .cfi_startproc
        .cfi_def_cfa rsp, 0
        /* rip at: DW_OP_breg16 0, DW_OP_const1s -64, DW_OP_and */
        .cfi_escape 0x10, 0x10, 0x05, 0x80, 0x00, 0x09, 0xc0, 0x1a
        .zero   16384 * 64
        .cfi_endproc
        .size   userstack_rewrite_stubs, . - userstack_rewrite_stubs
userstack_rewrite_stubs_end:

        .globl  userstack_rewrite_unwatched
        .hidden userstack_rewrite_unwatched
        .type   userstack_rewrite_unwatched, @object
        .p2align 4
        .size   userstack_rewrite_unwatched, 16
userstack_rewrite_unwatched:
        .zero   16

/* Behind fork and clone: rcx is the address behind the `syscall`, six bytes in front of the tail's.
 * The kernel does not pass Syscall User Dispatch on: the child asks for it before it runs anything
 * else, with every register but rcx and r11 as it is, and on whatever stack it has.
 */
#define SYS_prctl 157
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
        .text
        .globl  userstack_rewrite_after_clone
        .hidden userstack_rewrite_after_clone
        .type   userstack_rewrite_after_clone, @function
        .p2align 4
userstack_rewrite_after_clone:
        mov     6(%rcx), %r11
        mov     %rax, %rcx
        jrcxz   .Lchild
        jmp     *%r11
.Lchild:
        lea     -128(%rsp), %rsp
        push    %r11
        push    %rdi
        push    %rsi
        push    %rdx
        push    %r10
        push    %r8
        mov     $SYS_prctl, %eax
        mov     $PR_SET_SYSCALL_USER_DISPATCH, %edi
        mov     $PR_SYS_DISPATCH_ON, %esi
        mov     userstack_rewrite_unwatched(%rip), %rdx
        mov     8+userstack_rewrite_unwatched(%rip), %r10
        mov     $0, %r8d
        syscall
        pop     %r8
        pop     %r10
        pop     %rdx
        pop     %rsi
        pop     %rdi
        pop     %r11
        lea     128(%rsp), %rsp
        mov     $0, %eax
        jmp     *%r11
        .size   userstack_rewrite_after_clone, . - userstack_rewrite_after_clone

/* Where the watch's handler returns: the kernel's frame is on the stack. */
        .globl  userstack_rewrite_return_from_signal
        .hidden userstack_rewrite_return_from_signal
        .type   userstack_rewrite_return_from_signal, @function
        .p2align 4
        nop                             /* unwinders look up the byte in front of a return address */
userstack_rewrite_return_from_signal:
        mov     $15, %rax               /* the very bytes that debuggers know a signal's frame by */
        syscall
        .size   userstack_rewrite_return_from_signal, . - userstack_rewrite_return_from_signal
