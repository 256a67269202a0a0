"""Half precision: float16 or bfloat16 where a model can take it, by ONNX Runtime's converter.

    staying = staying_in_float32(view, shapes, FLOAT16, ranges=ranges)
    converted = convert(model, shapes, FLOAT16, staying)

What the converter does not look at is looked at here: which operators have the type, which values grow beyond it, and
where its Cast nodes belong.
"""
