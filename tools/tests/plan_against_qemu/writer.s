# A guest that writes to random pages at a known rate: a boot sector of 512 bytes.
#
# A hundred times a second it increments one word in each of WRITES pages, drawn at
# random (a linear congruential generator) from the PAGES pages that begin at FIRST.
# The count of these bursts is kept at 0x7000, where the test reads it in the memory
# file. Between two of them the processor is halted.
#
# Assembled by the test (machine.rs): as --32, then
# ld -m elf_i386 --oformat binary -Ttext 0x7c00.

        .code16
        .globl  _start
_start:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movl    $0, 0x7000              # no burst yet
        inb     $0x92, %al              # A20 on: the fast gate, as the BIOS does
        orb     $2, %al
        outb    %al, $0x92
        movb    $0x34, %al              # timer 0: 1193182 / 11932 = 100 ticks a second
        outb    %al, $0x43
        movb    $(11932 & 255), %al
        outb    %al, $0x40
        movb    $(11932 >> 8), %al
        outb    %al, $0x40
        movl    $1, %ebp                # the generator's state

burst:
        # A data segment of 4 GiB: loaded in protected mode, it stays in real mode. Done for
        # each burst, with interrupts off: the BIOS's timer handler may load its own.
        cli
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        movw    $8, %bx
        movw    %bx, %es
        andb    $0xfe, %al
        movl    %eax, %cr0
        xorw    %bx, %bx
        movw    %bx, %es

        movl    $WRITES, %ecx
page:
        imull   $1664525, %ebp, %ebp
        addl    $1013904223, %ebp
        movl    $PAGES, %eax
        mull    %ebp                    # edx: a page number below PAGES
        shll    $12, %edx
        addl    $FIRST, %edx
        incl    %es:8(%edx)
        decl    %ecx
        jnz     page

        incl    0x7000
        sti
        hlt                             # until the next tick
        jmp     burst

        .balign 8
gdt:
        .quad   0
        .quad   0x008f92000000ffff      # data, base 0, limit 4 GiB, writable
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt

        .org    510
        .word   0xaa55
