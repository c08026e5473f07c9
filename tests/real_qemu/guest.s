# A guest that dirties its memory for ever: a boot sector of 512 bytes.
#
# At every tick of the BIOS timer (18.2 a second) it walks the pages of
# FIRST..END and writes one 32-bit word in each of them:
#   - page number divisible by 4: the word flips between 0 and 1, so that a page
#     that held zeros holds data and then zeros again;
#   - any other page: the word is incremented.
# The count of finished walks is kept at 0x7000, where the test reads it in the
# memory file. Between two walks the processor is halted.
#
# Assembled by the test (boot_sector.rs): as --32, then
# ld -m elf_i386 --oformat binary -Ttext 0x7c00.
# FIRST and END (bytes) come from the command line (--defsym).

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

        movl    $FIRST, %edi
page:
        movl    %edi, %eax
        testl   $0x3000, %eax
        jnz     count
        xorl    $1, %es:8(%edi)
        jmp     next
count:
        incl    %es:8(%edi)
next:
        addl    $0x1000, %edi
        cmpl    $END, %edi
        jb      page

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

        .org    510
        .word   0xaa55
