# A guest that writes to its memory for ever: a boot sector.
#
# What it writes is said by the parameters at its end (writing_guest.rs fills them in):
#   way 0: as fast as it can, it increments a 32-bit word in every 256 bytes from
#          `first` to `end`, so that 16 words of a page differ from one walk to the next;
#   way 1: at every tick it writes a word in each page from `first` to `end`: where the
#          page's number is divisible by 4 the word flips between 0 and 1, so that a page
#          that held zeros holds data and then zeros again; elsewhere it is incremented;
#   way 2: at every tick it increments a word in each of `writes` pages, drawn at random
#          (a linear congruential generator) from the `pages` that begin at `first`.
# A tick comes 1193182 / `divisor` times a second; until then the processor is halted. The
# count of finished walks is kept at 0x7000.
#
# boot_sector.bin is this file, assembled; a test holds them together:
#   as --32 boot_sector.s -o boot_sector.o
#   ld -m elf_i386 --oformat binary -Ttext 0x7c00 boot_sector.o -o boot_sector.bin

        .code16
        .globl  _start
_start:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movl    $0, 0x7000              # no walk yet
        inb     $0x92, %al              # A20 on: the fast gate, as the BIOS does
        orb     $2, %al
        outb    %al, $0x92
        movb    $0x34, %al              # timer 0, both bytes, for ever
        outb    %al, $0x43
        movw    divisor, %ax
        outb    %al, $0x40
        movb    %ah, %al
        outb    %al, $0x40
        movl    $1, %ebp                # the generator's state

walk:
        # A data segment of 4 GiB: load it in protected mode and come back to
        # real mode, where the limit stays. Done for each walk, with interrupts
        # off, because the BIOS's timer handler may load its own.
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
        movw    %bx, %es                # base 0 again; the limit stays 4 GiB

        movl    first, %edi
        cmpb    $1, way
        je      page
        ja      draw_all

word:                                   # way 0
        incl    %es:8(%edi)
        addl    $0x100, %edi
        cmpl    end, %edi
        jb      word
        incl    0x7000
        jmp     walk

page:                                   # way 1
        testl   $0x3000, %edi
        jnz     count
        xorl    $1, %es:8(%edi)
        jmp     next
count:
        incl    %es:8(%edi)
next:
        addl    $0x1000, %edi
        cmpl    end, %edi
        jb      page
        jmp     pause

draw_all:                               # way 2
        movl    writes, %ecx
draw:
        imull   $1664525, %ebp, %ebp
        addl    $1013904223, %ebp
        movl    pages, %eax
        mull    %ebp                    # edx: a page number below `pages`
        shll    $12, %edx
        addl    %edi, %edx
        incl    %es:8(%edx)
        decl    %ecx
        jnz     draw

pause:
        incl    0x7000
        sti
        hlt                             # until the next tick
        jmp     walk

        .balign 8
gdt:
        .quad   0
        .quad   0x008f92000000ffff      # data, base 0, limit 4 GiB, writable
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt

        .org    400
first:  .long   0
end:    .long   0                       # the first byte that is left alone
pages:  .long   0
writes: .long   0
divisor: .word  0                       # 0 is 65536
way:    .byte   0

        .org    510
        .word   0xaa55
