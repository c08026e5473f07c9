# A guest that writes to its memory for ever, as fast as it can: a boot sector.
#
# From 2 MiB to the address at `end` it increments one 32-bit word in every 256
# bytes, so that 16 words of a page differ from one walk to the next. The count
# of finished walks is kept at 0x7000.
#
# guest.bin is this file, assembled; a test holds them together:
#   as --32 guest.s -o guest.o
#   ld -m elf_i386 --oformat binary -Ttext 0x7c00 guest.o -o guest.bin

        .code16
        .globl  _start
_start:
        cli                             # for good: nobody may load a segment
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movl    $0, 0x7000              # no walk yet
        inb     $0x92, %al              # A20 on
        orb     $2, %al
        outb    %al, $0x92

        # A data segment of 4 GiB: loaded in protected mode, the limit stays.
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        movw    $8, %bx
        movw    %bx, %es
        andb    $0xfe, %al
        movl    %eax, %cr0
        xorw    %bx, %bx
        movw    %bx, %es                # base 0

walk:
        movl    $0x200000, %edi
word:
        incl    %es:8(%edi)
        addl    $0x100, %edi
        cmpl    end, %edi
        jb      word
        incl    0x7000
        jmp     walk

        .balign 8
gdt:
        .quad   0
        .quad   0x008f92000000ffff      # data, base 0, limit 4 GiB, writable
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt

        .org    504
end:    .long   0x400000                # filled in with the first byte that it leaves alone
        .org    510
        .word   0xaa55
