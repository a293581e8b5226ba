noinst_LIBRARIES += libwire.a
libwire_a_SOURCES = wire/wire.c wire/wire.h wire/codec.c wire/codec.h wire/fields.def wire/errcode.def wire/logstream.h
