/* Machine: see machine.h. */
#define GENERAL(n) machine_in + 8 * n(%rip)
#define GENERAL_OUT(n) machine_out + 8 * n(%rip)
#define FLAGS 128
#define MASKS 136
#define RED_ZONE 200
#define VECTORS 384

        .section .note.GNU-stack, "", @progbits
        .bss
        .globl  machine_in, machine_out, machine_level
        .p2align 6
machine_in:     .zero 2432
        .p2align 6
machine_out:    .zero 2432
machine_level:  .zero 4

        .text
        /* Everything but rsp, rax and the vector registers. */
        .macro  load_state
        call    load_vectors
        push    machine_in + FLAGS(%rip)
        popfq
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        mov     machine_in + RED_ZONE + 8 * \n(%rip), %rax
        mov     %rax, -128 + 8 * \n(%rsp)
        .endr
        mov     GENERAL(1), %rbx
        mov     GENERAL(2), %rcx
        mov     GENERAL(3), %rdx
        mov     GENERAL(4), %rsi
        mov     GENERAL(5), %rdi
        mov     GENERAL(6), %rbp
        mov     GENERAL(8), %r8
        mov     GENERAL(9), %r9
        mov     GENERAL(10), %r10
        mov     GENERAL(11), %r11
        mov     GENERAL(12), %r12
        mov     GENERAL(13), %r13
        mov     GENERAL(14), %r14
        mov     GENERAL(15), %r15
        .endm

        .macro  store_state
        mov     %rax, GENERAL_OUT(0)
        mov     %rbx, GENERAL_OUT(1)
        mov     %rcx, GENERAL_OUT(2)
        mov     %rdx, GENERAL_OUT(3)
        mov     %rsi, GENERAL_OUT(4)
        mov     %rdi, GENERAL_OUT(5)
        mov     %rbp, GENERAL_OUT(6)
        mov     %rsp, GENERAL_OUT(7)
        mov     %r8, GENERAL_OUT(8)
        mov     %r9, GENERAL_OUT(9)
        mov     %r10, GENERAL_OUT(10)
        mov     %r11, GENERAL_OUT(11)
        mov     %r12, GENERAL_OUT(12)
        mov     %r13, GENERAL_OUT(13)
        mov     %r14, GENERAL_OUT(14)
        mov     %r15, GENERAL_OUT(15)
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        mov     -128 + 8 * \n(%rsp), %rax
        mov     %rax, machine_out + RED_ZONE + 8 * \n(%rip)
        .endr
        pushfq
        popq    machine_out + FLAGS(%rip)
        cld
        call    store_vectors
        .endm

        .macro  function name
        .globl  \name
        .type   \name, @function
        .p2align 4
\name:
        .cfi_startproc
        .endm
        .macro  end name
        .cfi_endproc
        .size   \name, . - \name
        .endm

/* Apart from the sites: the decoder does not know every instruction here. */
load_vectors:
        mov     machine_level(%rip), %eax
        cmp     $1, %eax
        jb      1f
        ja      2f
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovaps machine_in + VECTORS + 64 * \n(%rip), %ymm\n
        .endr
        jmp     3f
1:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movaps  machine_in + VECTORS + 64 * \n(%rip), %xmm\n
        .endr
        jmp     3f
2:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovaps machine_in + VECTORS + 64 * \n(%rip), %zmm\n
        .endr
        .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        vmovaps machine_in + VECTORS + 64 * \n(%rip), %zmm\n
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        kmovq   machine_in + MASKS + 8 * \n(%rip), %k\n
        .endr
3:
        ret

store_vectors:
        mov     machine_level(%rip), %eax
        cmp     $1, %eax
        jb      1f
        ja      2f
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovaps %ymm\n, machine_out + VECTORS + 64 * \n(%rip)
        .endr
        vzeroupper
        jmp     3f
1:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movaps  %xmm\n, machine_out + VECTORS + 64 * \n(%rip)
        .endr
        jmp     3f
2:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovaps %zmm\n, machine_out + VECTORS + 64 * \n(%rip)
        .endr
        .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        vmovaps %zmm\n, machine_out + VECTORS + 64 * \n(%rip)
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        kmovq   %k\n, machine_out + MASKS + 8 * \n(%rip)
        .endr
        vzeroupper
3:
        ret

        .macro  enter
        .irp    r, rbx, rbp, r12, r13, r14, r15
        push    %\r
        .cfi_adjust_cfa_offset 8
        .endr
        .endm
        .macro  leave_function
        .irp    r, r15, r14, r13, r12, rbp, rbx
        pop     %\r
        .cfi_adjust_cfa_offset -8
        .endr
        ret
        .endm

        function machine_run_front
        enter
        load_state
        mov     GENERAL(0), %rax
        syscall
        store_state
        leave_function
        end     machine_run_front

        function machine_run_behind
        enter
        load_state
        mov     GENERAL(0), %rax
        jmp     .Lcall                  /* nothing in front belongs to the call */
        nop
.Lcall: syscall
        mov     %rax, %rax
        store_state
        leave_function
        end     machine_run_behind

        .macro  six_arguments
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        mov     %r8, %r10
        mov     %r9, %r8
        mov     8(%rsp), %r9
        .endm

        function machine_call
        six_arguments
        syscall
        nop
        nop
        nop
        ret
        end     machine_call

        function machine_call_plain
        six_arguments
        syscall
        nop
        nop
        nop
        ret
        end     machine_call_plain

        /* The child ends here: it must not return on the stack that it borrows. */
        function machine_vfork
        mov     %rdi, %rax
        syscall
        nop
        nop
        nop
        test    %eax, %eax
        jnz     1f
        mov     $7, %edi
        mov     $231, %eax              /* exit_group */
        syscall
1:      ret
        end     machine_vfork

        /* As machine_call, rewritten to come by the entry for small stacks. */
        function machine_call_small
        six_arguments
        syscall
        nop
        nop
        nop
        ret
        end     machine_call_small

        /* The 4096 bytes below the stack of this function hold rsi before and after the call whose
           number is rdi; the result is how many of them do not any more. */
        function machine_untouched
        lea     -4096(%rsp), %rdx
        mov     %rdx, %r8
        mov     %rsi, %rax
        mov     $512, %ecx
1:      mov     %rax, (%r8)
        add     $8, %r8
        dec     %ecx
        jnz     1b
        mov     %rdi, %rax
        syscall
        nop
        nop
        nop
        mov     %rdx, %r8
        xor     %eax, %eax
        mov     $512, %ecx
1:      cmp     %rsi, (%r8)
        je      2f
        inc     %eax
2:      add     $8, %r8
        dec     %ecx
        jnz     1b
        ret
        end     machine_untouched
